"""What one job measures: a network on its chips without blocks, with `affine`, digital channels, and greedy blocks."""

from __future__ import annotations

from pathlib import Path

from cimenv.compensation.options import Placement
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.problem import default_store
from experiments.cross.plan import Job, Plan
from experiments.lab.placements import digital_evaluator, most_accurate
from experiments.lab.rows import Row


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    store, task = default_store(folder / "store"), plan.task(job)
    blocks, digital = MonteCarloEvaluator(task, store, threads=1), digital_evaluator(task, store)
    placements = [
        ("none", blocks, blocks.space.empty()),
        ("affine", blocks, blocks.space.uniform("affine")),
        ("greedy", blocks, run_search(blocks, "greedy").best),
        ("digital", digital, most_accurate(digital)[0]),
    ]
    fields = {"data": job.data, "recipe": job.recipe, "physics": job.physics, "seed": job.seed}
    return [{**fields, "blocks": name, **report(evaluator, placement)} for name, evaluator, placement in placements]


def report(evaluator: MonteCarloEvaluator, placement: Placement) -> Row:
    """Measure a placement on test images and fresh chips, with blocks fitted for it."""
    tested, shares = evaluator.evaluate(placement, "test", "tuned"), evaluator.space.shares(placement)
    return {
        "placement": list(placement),
        "weights": shares["weights"],
        "macs": shares["macs"],
        "clean": evaluator.clean_accuracy("test"),
        "standard_clean": evaluator.reference_accuracy("test"),
        "mean": tested.value("mean"),
        "p05": tested.value("percentile", 0.05),
        "chips": tested.chips,
        "images": tested.images,
        "correct": tested.counts()[0],
    }
