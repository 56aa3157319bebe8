"""What one job measures. Every function returns rows: plain mappings."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cimenv.analysis.non_idealities import NON_IDEALITIES
from cimenv.analysis.sensitivity import Sensitivity, bare_task
from cimenv.compensation.options import Placement
from cimenv.core.store import Store
from cimenv.evaluation.intervals import normalised_accuracy
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Task
from cimenv.tasks.problem import default_store
from cimenv.tasks.requests import Fidelity
from experiments.aimc.plan import HOUR_S, Job, Plan
from experiments.lab.placements import digital_evaluator
from experiments.lab.rows import Row


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    kinds = {
        "direct": direct,
        "hwa": hwa,
        "whole": whole,
        "blocks": blocks,
        "rivals": rivals,
        "sensitivity": sensitivity,
    }
    rows = kinds[job.kind](plan, job, default_store(folder / "store"))
    return [{"kind": "blocks" if job.kind == "rivals" else job.kind, "network": job.network, **row} for row in rows]


def direct(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Map the digital network as it is, with input ranges calibrated by quantile."""
    task = plan.task(job)
    return [bare(task.model_copy(update={"recipe": task.reference}), store)]


def hwa(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Fine-tune the network for its crossbar."""
    return [bare(plan.task(job), store)]


def whole(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Measure the fine-tuned network on the whole test split: the choice of images moves A* more than the chips do."""
    times_s = (HOUR_S, plan.times_s[-1])
    task = plan.task(job, times_s=times_s, report_images=plan.whole_images)
    return [{**bare(task, store), "times_s": list(times_s)}]


def bare(task: Task, store: Store) -> Row:
    """Train what is missing and measure the network without blocks."""
    start = time.perf_counter()
    evaluator = MonteCarloEvaluator(task.model_copy(update={"options": {}}), store, threads=1)
    history = evaluator.problem.histories.get(evaluator.task.recipe.name, [])
    trained = time.perf_counter()
    row = {"recipe": task.recipe.name, **points(evaluator, evaluator.space.empty(), "bank"), "history": history}
    return {**row, "training_s": trained - start, "evaluation_s": time.perf_counter() - trained}


def points(evaluator: MonteCarloEvaluator, placement: Placement, fidelity: Fidelity) -> Row:
    """Return the correct images of every time and chip, and what A* needs."""
    evaluation = evaluator.evaluate(placement, "test", fidelity)
    shares = evaluator.space.shares(placement)
    return {
        "fp": evaluator.reference_accuracy("test"),
        "clean": evaluator.clean_accuracy("test"),
        "images": evaluation.images,
        "correct": evaluation.counts(),
        "placement": list(placement),
        "weights": shares["weights"],
        "macs": shares["macs"],
    }


def blocks(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Place blocks on the fine-tuned network, where its devices cost enough at the last time."""
    scale, searched = noisy_enough(plan, job, store)
    searching = MonteCarloEvaluator(searched, store, threads=1)
    space = searching.space
    placements = {
        "none": space.empty(),
        "affine": space.uniform("affine"),
        "knapsack": run_search(searching, "knapsack").best,
    }
    return [reported(plan, searching, name, placement, scale) for name, placement in placements.items()]


def rivals(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Measure what blocks have to beat, and what they could do at any price, on the same chips as `blocks`."""
    scale, searched = noisy_enough(plan, job, store)
    digital = digital_evaluator(searched, store)
    unlimited = MonteCarloEvaluator(searched.model_copy(update={"budget": {}}), store, threads=1)
    return [
        reported(plan, digital, "digital", run_search(digital, "knapsack").best, scale),
        reported(plan, unlimited, "all largest", unlimited.space.largest(), scale),
    ]


def reported(plan: Plan, searching: MonteCarloEvaluator, name: str, placement: Placement, scale: float) -> Row:
    """Return a placement's row: at all times, with its own blocks."""
    task = searching.task.model_copy(update={"times_s": plan.times_s})
    reporting = MonteCarloEvaluator(task, searching.store, threads=1)
    return {
        "recipe": task.recipe.name,
        "blocks": name,
        "noise_scale": scale,
        **points(reporting, placement, "tuned"),
    }


def noisy_enough(plan: Plan, job: Job, store: Store) -> tuple[float, Task]:
    """Return the least noise scale whose loss of A* at the last time, on VALIDATION, is `open_points`, and a task.

    The task is the one in which blocks are searched, at the last time.
    The network stays the one that was fine-tuned for the crossbar as it is.
    """
    task = plan.task(job)
    for scale in plan.noise_scales:
        device = task.crossbar.device.scaled(scale)
        changes: dict[str, Any] = {"crossbar": {"device": device.model_dump(mode="json")}}
        if scale != 1:
            changes["trained_for"] = task.crossbar.model_dump(mode="json")
        louder = task.with_changes(**changes)
        last = louder.model_copy(
            update={"times_s": (plan.times_s[-1],), "options": {}, "images": plan.images, "chips": plan.chips}
        )
        evaluator = MonteCarloEvaluator(last, store, threads=1)
        reached = evaluator.evaluate(evaluator.space.empty()).value("mean")
        if (
            normalised_accuracy(reached, evaluator.reference_accuracy(), evaluator.problem.data.classes)
            <= 1 - plan.open_points
        ):
            break
    return scale, louder.with_changes(**plan.search, times_s=(plan.times_s[-1],))


def sensitivity(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Raise one non-ideality at a time on the digital network."""
    task = plan.task(job)
    plain = bare_task(task.model_copy(update={"recipe": task.reference}), plan.sensitivity.images)
    measured = Sensitivity(MonteCarloEvaluator(plain, store, threads=1).problem, plan.sensitivity.chips)
    rows = [row for name in NON_IDEALITIES for row in (measured.threshold(name), measured.at_error(name, 0.1))]
    return [
        {"what": row.kind, **{k: v for k, v in asdict(row).items() if k not in ("task", "kind", "weights")}}
        for row in rows
    ]
