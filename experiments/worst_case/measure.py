"""What one job measures. Every function returns rows: plain mappings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cimenv.compensation.options import Placement
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Store
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.worst_case import AttackTarget, WorstCase, WorstCaseSearch, certified_correct, worst_case
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Problem, load_task
from cimenv.tasks.damage import attacked, transfer
from cimenv.tasks.problem import default_store
from cimenv.tasks.requests import Compute, Request
from cimenv.training import recipe_named
from experiments.lab.placements import random_placements
from experiments.lab.rows import Row
from experiments.lab.timing import epoch_of, median_ratio
from experiments.worst_case.plan import Job, Plan

ONE = Compute(1)
SEARCH_CHIPS, SEARCH_IMAGES = 59, 500
PART = 5_000  # images of an epoch that is timed


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    kinds = {"try": tried, "judge": judged, "net": net, "blocks": blocks, "fidelity": fidelity, "budget": budget}
    rows = kinds[job.kind](plan, job, default_store(folder / "store"))
    return [{"kind": job.kind, "data": job.data, "recipe": job.recipe, "seed": job.seed, **row} for row in rows]


def tried(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Train a network and return its validation results; the test split is not read."""
    problem = Problem.build(plan.task(job), store)
    history = problem.histories[problem.task.recipe.name]
    best = max(history, key=lambda epoch: epoch["val_accuracy"])
    names = ("clean", "mean", "percentile", "worst_case", "sigma", "threshold")
    validated = {f"val_{name}": best[name] for name in names if name in best}
    return [{**validated, "val_accuracy": best["val_accuracy"], "history": history}]


def judged(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Attack a network on validation images as reports do on test, at the bound of its contest."""
    contest = plan.contest_of(job.recipe)
    assert contest is not None
    problem = Problem.build(plan.task(job, images=SEARCH_IMAGES), store)
    attack = WorstCaseSearch(bound=contest.judged["bound"])
    starts = [transfer(problem, "val", attack, "reference", ONE)]
    worst = attacked(problem, none(problem, "val"), attack, ONE, starts)
    return [{"val_accuracy": worst.accuracy, "images": worst.images, "member": worst.member}]


def net(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Attack a network at every bound, certify it, and measure its chips."""
    problem = Problem.build(plan.task(job), store)
    row: Row = {
        "blocks": "none",
        "training_time": training_time(problem),
        "clean": problem.clean_accuracy("test"),
        "standard_clean": problem.reference_accuracy("test"),
    }
    for bound, images in plan.bounds.items():
        part = Problem.build(plan.task(job, report_images=images), store)
        worst = attacked(part, none(part), WorstCaseSearch(bound=bound), ONE)
        row |= attack_columns(bound, worst, curve=bound == plan.first_bound and job.seed == plan.seeds[0])
    row |= certificates(plan, Problem.build(plan.task(job, report_images=plan.certificate_images), store))
    for name, device in plan.physics.items():
        chips = plan.task(job, crossbar={"device": device}, report_images=plan.chip_images)
        evaluator = MonteCarloEvaluator(chips, store, threads=1)
        row |= chip_columns(name, evaluator.evaluate(evaluator.space.empty(), "test"))
    return [row]


def none(problem: Problem, split: Split = "test") -> Request:
    """Return the request for the placement without blocks."""
    return Request.of(problem.task, (0,) * len(problem.options.sites), split)


def certificates(plan: Plan, problem: Problem) -> Row:
    """Return certified and attacked accuracy at small bounds, as columns."""
    images, labels = problem.evaluated("test")
    row: Row = {}
    for bound in plan.certificate_bounds:
        shorter = WorstCaseSearch(bound=bound, steps=10, random_chips=10, lagrangian_rounds=0)
        worst = worst_case(AttackTarget(problem.network, images, labels), shorter, torch_generator("certificate"))
        row[f"certified_{bound:g}"] = certified_correct(problem.network, images, labels, bound) / len(labels)
        row[f"attacked_{bound:g}"] = worst.accuracy
    return row


def training_time(problem: Problem) -> float:
    """Return the time of the recipe's training, judging of epochs left out, over that of the `standard` recipe."""
    recipe, standard = problem.task.recipe, recipe_named("standard")
    ratio, _, _ = median_ratio(epoch_of(problem, recipe, PART), epoch_of(problem, standard, PART), runs=3)
    return recipe.copies * ratio * recipe.epochs / standard.epochs


def attack_columns(bound: float, worst: WorstCase, curve: bool = False) -> Row:
    """Return the result of a search for the worst case, as columns."""
    columns: dict[str, Any] = {
        f"worst_{bound:g}": worst.accuracy,
        f"worst_{bound:g}_member": worst.member,
        f"worst_{bound:g}_members": dict(worst.members),
    }
    if curve:
        columns["curve"] = [[p.member, p.start, p.step, p.passes, p.accuracy] for p in worst.curve]
    return columns


def chip_columns(name: str, evaluation: Evaluation) -> Row:
    """Return mean and percentiles of one kind of device, as columns."""
    low, high = evaluation.interval("percentile", 0.01) or (None, None)
    return {
        f"{name}_mean": evaluation.value("mean"),
        f"{name}_std": evaluation.value("std"),
        f"{name}_p01": evaluation.value("percentile", 0.01),
        f"{name}_p01_low": low,
        f"{name}_p01_high": high,
        f"{name}_p05": evaluation.value("percentile", 0.05),
        f"{name}_correct": evaluation.counts()[0],
    }


def placed(plan: Plan, job: Job) -> dict[str, Any]:
    """Return the fields of a task in which blocks are searched."""
    return {
        "options": load_task(f"lenet5-{job.data}").model_dump(mode="json")["options"],
        "crossbar": {"device": plan.physics[plan.blocks.physics]},
        "chips": SEARCH_CHIPS,
        "images": SEARCH_IMAGES,
        "worst_case": {"bound": plan.first_bound},
        "budget": {"weights": 0.05},
    }


def blocks(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Place blocks for each statistic on one network and measure all statistics of what was found."""
    changes = placed(plan, job)
    placements: dict[str, Placement] = {}
    for statistic in plan.blocks.statistics:
        searching = MonteCarloEvaluator(plan.task(job, statistic=statistic, **changes), store, threads=1)
        placements.setdefault("none", searching.space.empty())
        placements.setdefault("affine", searching.space.uniform("affine"))
        placements[statistic] = run_search(searching, "knapsack").best
    attack = WorstCaseSearch(bound=plan.first_bound)
    attacking = Problem.build(plan.task(job, **changes), store)
    report = MonteCarloEvaluator(plan.task(job, **changes, report_images=plan.chip_images), store, threads=1)
    rows = []
    for placed_for, placement in placements.items():
        worst = attacked(attacking, Request.of(attacking.task, placement, "test", "tuned"), attack, ONE)
        shares = report.space.shares(placement)
        rows.append(
            {
                "blocks": placed_for,
                "placement": list(placement),
                "weights": shares["weights"],
                "macs": shares["macs"],
                "clean": worst.target.accuracy(worst.target.zero()),
                **attack_columns(plan.first_bound, worst),
                **chip_columns(plan.blocks.physics, report.evaluate(placement, "test", "tuned")),
            }
        )
    return rows


def fidelity(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Attack this part's share of random placements on validation: quickly, as a search does, and by the ensemble."""
    evaluator = MonteCarloEvaluator(plan.task(job, **placed(plan, job)), store, threads=1)
    problem, full = evaluator.problem, WorstCaseSearch(bound=plan.first_bound)
    placements = random_placements(evaluator.space, plan.fidelity.placements)[job.part :: plan.fidelity.parts]
    rows = []
    for placement in placements:
        start = time.perf_counter()
        request = Request.of(problem.task, placement)
        quick = attacked(problem, request, full.quick(), ONE)
        took = time.perf_counter() - start
        ensemble = attacked(problem, request, full, ONE)
        accuracies = {"quick": quick.accuracy, "quick_seconds": took, "ensemble": ensemble.accuracy}
        rows.append({"placement": list(placement), "images": ensemble.images, **accuracies})
    return rows


def budget(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Attack a network on test images by ensembles of growing budgets."""
    problem = Problem.build(plan.task(job, report_images=plan.budgets.images), store)
    rows: list[Row] = []
    for steps, restarts in plan.budgets.steps.items():
        search = WorstCaseSearch(bound=plan.first_bound, steps=steps, restarts=restarts)
        worst = attacked(problem, none(problem), search, ONE)
        passes = max(point.passes for point in worst.curve)
        row: Row = {"steps": steps, "restarts": restarts, "passes": passes, "images": worst.images}
        rows.append({**row, "worst": worst.accuracy, "member": worst.member})
    return rows
