"""What one job measures. Every function returns rows: plain mappings, one line of the CSV each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.config import load_config
from agents.train import train
from cimenv.compensation.options import Placement
from cimenv.core.store import Store
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Task
from cimenv.tasks.problem import default_store
from experiments.deep.plan import Job, Plan
from experiments.lab.placement_row import report
from experiments.lab.placements import DIGITAL
from experiments.lab.rows import Row

WHOLE_SPLIT = 10_000


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    store = default_store(folder / "store")
    rows = curve(plan, job, store) if job.kind == "curve" else blocks(plan, job, store, folder)
    return [{"kind": job.kind, "problem": job.problem, "recipe": job.recipe, **row} for row in rows]


def curve(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Measure a network without blocks at every sigma, with every kind of batch-norm statistics, and in float32."""
    rows = []
    for statistics in plan.statistics:
        for sigma in plan.sigmas if statistics == "none" else (own_sigma(plan.task(job)),):
            crossbar = {"batch_norm": statistics, "device": {"sigma": sigma}}
            task = bare(plan.task(job, crossbar=crossbar, report_chips=plan.curve_chips))
            evaluator = MonteCarloEvaluator(task, store, threads=1)
            row = report(evaluator, "none", evaluator.space.empty())
            rows.append({"statistics": statistics, **row})
    exact = bare(plan.task(job, report_chips=plan.curve_chips, precision="float32"))
    single = MonteCarloEvaluator(exact, store, threads=1)
    rows.append({"statistics": "float32", **report(single, "none", single.space.empty())})
    whole = MonteCarloEvaluator(bare(plan.task(job, report_images=WHOLE_SPLIT)), store, threads=1)
    rows[0]["clean_whole_split"] = whole.clean_accuracy("test")
    return rows


def own_sigma(task: Task) -> float:
    """Return the strength of the problem's variation."""
    return float(getattr(task.crossbar.device, "sigma", 0.0))


def bare(task: Task) -> Task:
    """Return a task without options: it needs no bank."""
    return task.model_copy(update={"options": {}, "budget": {}})


def blocks(plan: Plan, job: Job, store: Store, folder: Path) -> list[Row]:
    """Let a search and an agent place blocks on a network; measure them beside the baselines."""
    task = plan.task(job)
    evaluator = MonteCarloEvaluator(task, store, threads=1)
    space = evaluator.space
    greedy = run_search(evaluator, "greedy")
    effort = [f"evaluations={plan.agent_evaluations}", f"steps={plan.agent_steps}"]
    config = load_config(plan.agent, [f"name={job.name}", f"seed={plan.seed}", *effort])
    agent = train(config, folder / "agents" / job.name, evaluator)
    everything = MonteCarloEvaluator(task.with_changes(candidates=None), store, threads=1)
    placements: dict[str, tuple[MonteCarloEvaluator, Placement, int]] = {
        "none": (evaluator, space.empty(), 1),
        "greedy": (evaluator, greedy.best, greedy.evaluations),
        "agent": (evaluator, agent.final, agent.evaluations),
        "affine": (everything, everything.space.uniform("affine"), 1),
        "all": (evaluator, largest_within(evaluator), 1),
        "all_and_affine": (everything, with_affine(everything, largest_within(evaluator)), 1),
        "digital": digital_at(task, agent.final, evaluator, store),
    }
    return [
        {
            "statistics": task.crossbar.batch_norm,
            **report(where, name, placement, spent),
            "validation": where.evaluate(placement, "val", "tuned", plan.chips).value("mean"),
        }
        for name, (where, placement, spent) in placements.items()
    ]


def largest_within(evaluator: MonteCarloEvaluator) -> Placement:
    """Return the largest option that the budget still allows, site after site from the input on."""
    space = evaluator.space
    placement = space.empty()
    for site in range(len(placement)):
        allowed = space.affordable_at(placement, site).nonzero()[0]
        placement = (*placement[:site], int(allowed[-1]), *placement[site + 1 :])
    return placement


def with_affine(evaluator: MonteCarloEvaluator, placement: Placement) -> Placement:
    """Return a placement with the affine option wherever it has no block."""
    filled = evaluator.space.uniform("affine")
    return tuple(option or other for option, other in zip(placement, filled, strict=True))


def digital_at(
    task: Task, placement: Placement, evaluator: MonteCarloEvaluator, store: Store
) -> tuple[MonteCarloEvaluator, Placement, int]:
    """Return the digital layers that a greedy search finds at no more weights and MACs than a placement has."""
    shares = evaluator.space.shares(placement)
    changes: dict[str, Any] = {
        "options": {"conv": DIGITAL, "dense": DIGITAL},
        "candidates": None,
        "budget": {term: shares[term] for term in ("weights", "macs")},
        "cost_weight": 0.0,
    }
    digital = MonteCarloEvaluator(task.with_changes(**changes), store, threads=1)
    result = run_search(digital, "greedy")
    return digital, result.best, result.evaluations
