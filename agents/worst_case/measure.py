"""What one job measures. Every function returns rows: plain mappings."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.study import Row
from agents.worst_case.plan import Job, Plan
from cimenv.compensation.options import Placement
from cimenv.core.progress import silent
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Store
from cimenv.data.splits import DataSplits, ImageSet
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.worst_case import AttackTarget, WorstCase, WorstCaseSearch, certified_correct, worst_case
from cimenv.networks import build_backbone
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, load_task
from cimenv.tasks.damage import attacked
from cimenv.tasks.problem import Problem, default_store
from cimenv.training import Recipe, recipe_named
from cimenv.training.course import Course

SEARCH_CHIPS, SEARCH_IMAGES = 59, 500
PART = 5_000  # images of an epoch that is timed


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    store = default_store(folder / "store")
    rows = net(plan, job, store) if job.kind == "net" else blocks(plan, job, store)
    return [{"data": job.data, "recipe": job.recipe, "seed": job.seed, **row} for row in rows]


def net(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Train a network, attack it at every bound, certify it, and measure its chips."""
    task = plan.task(job)
    problem = Problem.build(task, store)
    history = problem.histories[task.recipe.name]
    row: Row = {
        "blocks": "none",
        "training_time": training_time(problem),
        "history": history,
        **{f"val_{name}": value for name, value in chosen_epoch(history).items()},
        "clean": problem.clean_accuracy("test"),
        "standard_clean": problem.reference_accuracy("test"),
        "attack_images": problem.images("test"),
    }
    empty: Placement = (0,) * len(problem.options.sites)
    for bound in plan.bounds:
        found = attacked(problem, empty, problem.bank, "test", WorstCaseSearch(bound=bound))
        row |= attack_columns(bound, found, curve=bound == plan.bounds[0] and job.seed == plan.seeds[0])
    images, labels = problem.evaluated("test")
    few = plan.certificate_images
    step = len(labels) // few
    part = images[::step][:few], labels[::step][:few]
    for bound in plan.certificate_bounds:
        row[f"certified_{bound:g}"] = certified_correct(problem.network, *part, bound) / few
        shorter = WorstCaseSearch(bound=bound, steps=10, random_chips=10, lagrangian_rounds=0)
        found_small = worst_case(AttackTarget(problem.network, *part), shorter, torch_generator("certificate"))
        row[f"attacked_{bound:g}"] = found_small.accuracy
    for name, device in plan.physics.items():
        chips = plan.task(job, crossbar={"device": device}, report_images=plan.chip_images)
        found_chips = MonteCarloEvaluator(chips, store, threads=1).evaluate(empty, "test")
        row |= chip_columns(name, found_chips)
    return [row]


def chosen_epoch(history: list[dict[str, float]]) -> dict[str, float]:
    """Return what validation said of the epoch that was kept."""
    best = max(history, key=lambda epoch: epoch["val_accuracy"])
    return {name: best[name] for name in ("worst_case", "percentile", "sigma", "threshold") if name in best}


def training_time(problem: Problem) -> float:
    """Return the time of the recipe's training, judging of epochs left out, over that of the `standard` recipe.

    Epochs of 5,000 images alternate, so that a busy machine slows both.
    """
    recipe, standard = problem.task.recipe, recipe_named("standard")
    train = problem.data.train
    data = replace(problem.data, train=ImageSet(train.images[:PART], train.labels[:PART], train.mean, train.std))
    pairs = [[_epoch_seconds(problem, each, data) for each in (recipe, standard)] for _ in range(4)][1:]
    copies = 3 if getattr(recipe, "search", False) else 1  # TRICE trains every epoch at three strengths
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return copies * ratio * recipe.epochs / standard.epochs


def _epoch_seconds(problem: Problem, recipe: Recipe, data: DataSplits) -> float:
    backbone = build_backbone(problem.task.backbone, problem.task.backbone_args)
    with Course.of(recipe, backbone, data, torch_generator("timing"), silent) as course:
        started = time.perf_counter()
        course.train_epoch(recipe)
        return time.perf_counter() - started


def attack_columns(bound: float, found: WorstCase, curve: bool = False) -> Row:
    """Return what a search for the worst case found, as columns."""
    columns: dict[str, Any] = {
        f"worst_{bound:g}": found.accuracy,
        f"worst_{bound:g}_member": found.member,
        f"worst_{bound:g}_members": dict(found.members),
    }
    if curve:
        columns["curve"] = [[p.member, p.start, p.step, p.passes, p.accuracy] for p in found.curve]
    return columns


def chip_columns(name: str, found: Evaluation) -> Row:
    """Return mean and percentiles of one kind of device, as columns."""
    low, high = found.interval("percentile", 0.01) or (None, None)
    return {
        f"{name}_mean": found.value("mean"),
        f"{name}_std": found.value("std"),
        f"{name}_p01": found.value("percentile", 0.01),
        f"{name}_p01_low": low,
        f"{name}_p01_high": high,
        f"{name}_p05": found.value("percentile", 0.05),
        f"{name}_correct": found.correct[0].tolist(),
    }


def blocks(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Place blocks for each metric on one network and measure all metrics of what was found."""
    named = load_task(f"lenet5-{job.data}")
    changes: dict[str, Any] = {
        "options": named.model_dump(mode="json")["options"],
        "crossbar": {"device": plan.physics[plan.blocks.physics]},
        "chips": SEARCH_CHIPS,
        "images": SEARCH_IMAGES,
        "worst_case": {"bound": plan.bounds[0]},
        "budget": {"weights": 0.05},
    }
    found: dict[str, Placement] = {}
    for metric in plan.blocks.metrics:
        searching = MonteCarloEvaluator(plan.task(job, metric=metric, **changes), store, threads=1)
        found[metric] = run_search(searching, "knapsack").best
        found.setdefault("none", searching.space.empty())
        found.setdefault("affine", searching.space.uniform("affine"))
    rows = []
    for placed_for, placement in found.items():
        report = MonteCarloEvaluator(plan.task(job, **changes, report_images=plan.chip_images), store, threads=1)
        problem = report.problem
        bank = problem.tuned_bank(placement)
        attack_problem = MonteCarloEvaluator(plan.task(job, **changes), store, threads=1).problem
        worst = attacked(attack_problem, placement, bank, "test", WorstCaseSearch(bound=plan.bounds[0]))
        rows.append(
            {
                "blocks": placed_for,
                "placement": list(placement),
                "weights": report.space.shares(placement)["weights"],
                "macs": report.space.shares(placement)["macs"],
                "clean": worst.target.accuracy(worst.target.zero()),
                **attack_columns(plan.bounds[0], worst),
                **chip_columns(plan.blocks.physics, report.evaluate(placement, "test", "tuned")),
            }
        )
    return rows
