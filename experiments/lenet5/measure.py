"""What one job measures. Every function returns rows: plain mappings, one line of the CSV each."""

from __future__ import annotations

from pathlib import Path

from agents.config import load_config
from agents.train import train
from cimenv.compensation.options import Placement
from cimenv.core.store import Store
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.problem import default_store
from experiments.lab.placement_row import report
from experiments.lab.placements import DIGITAL, digital_evaluator, most_accurate
from experiments.lab.rows import Row
from experiments.lenet5.plan import Job, Plan

QUANTILE = 0.01
WHOLE_SPLIT = 10_000


def measure(plan: Plan, job: Job, folder: Path, before: list[Row]) -> list[Row]:
    """Run one job.

    Args:
        plan: the experiment's configuration.
        job: what to measure.
        folder: keeps what is trained.
        before: for a tail, the rows that it continues.
    """
    store = default_store(folder / "store")
    if job.kind == "tail":
        rows = tail(plan, job, store, before)
    elif job.kind == "accurate":
        rows = accurate(plan, job, store)
    else:
        rows = (bare if job.kind == "bare" else blocks)(plan, job, store, folder)
    return [{"data": job.data, "recipe": job.recipe, "seed": job.seed, **row} for row in rows]


def bare(plan: Plan, job: Job, store: Store, folder: Path) -> list[Row]:
    """Measure one backbone without blocks: every sigma, then with the first layers exempt from variation."""
    del folder
    rows = []
    for sigma in plan.sigmas:
        evaluator = digital_evaluator(plan.task(job, sigma), store)
        rows.append(report(evaluator, "none", evaluator.space.empty()))
    whole = digital_evaluator(plan.task(job, 0.0, report_images=WHOLE_SPLIT), store)
    rows[0]["clean_whole_split"] = whole.clean_accuracy("test")
    if job.seed not in plan.first_varied_seeds:
        return rows
    sites = len(evaluator.space.sites)
    largest = len(DIGITAL)
    for first in range(1, sites):  # a digital site is exact, so variation begins at site `first`
        rows.append(report(evaluator, f"from_site_{first}", (largest,) * first + (0,) * (sites - first)))
    return rows


def blocks(plan: Plan, job: Job, store: Store, folder: Path) -> list[Row]:
    """Let searches and an agent place blocks on one backbone; measure what they found beside the baselines."""
    task = plan.task(job, job.sigma)
    evaluator = MonteCarloEvaluator(task, store, threads=1)
    placements: dict[str, tuple[Placement, int]] = {}
    for name, method in (("optimum", "exhaustive"), ("greedy", "greedy"), ("knapsack", "knapsack")):
        result = run_search(evaluator, method)
        placements[name] = (result.best, result.evaluations)
    config = load_config(plan.agent, [f"name={job.name}", f"seed={job.seed}"])
    agent = train(config, folder / "agents" / job.name, evaluator)
    placements["agent"] = (agent.final, agent.evaluations)
    placements["affine"] = (evaluator.space.uniform("affine"), 1)
    placements["all_largest"] = (evaluator.space.largest(), 1)
    placements["none"] = (evaluator.space.empty(), 1)
    rows = [report(evaluator, name, placement, evaluations) for name, (placement, evaluations) in placements.items()]
    return rows + digital_baselines(digital_evaluator(task, store), evaluator, agent.final)


def accurate(plan: Plan, job: Job, store: Store) -> list[Row]:
    """Measure the placement that validates best within the budget, cost aside, with blocks fitted for longer."""
    steps = plan.accurate_steps[job.recipe]
    evaluator = MonteCarloEvaluator(plan.task(job, job.sigma, tuned={"steps": steps}), store, threads=1)
    return [report(evaluator, "most_accurate", *most_accurate(evaluator))]


def digital_baselines(digital: MonteCarloEvaluator, evaluator: MonteCarloEvaluator, agent: Placement) -> list[Row]:
    """Measure the best whole or partial digital layers: within the weight budget, and at the agent's scalar cost."""
    limit = evaluator.space.scalar_cost(agent)
    space = digital.space
    everything = digital.evaluate_many(list(space.all_placements()))
    affordable = [e for e in everything if space.scalar_cost(e.placement) <= limit + 1e-9]
    rows = []
    for name, pool in (("digital_equal_weights", everything), ("digital_equal_cost", affordable)):
        best = max(pool, key=lambda e: (e.value("mean"), -space.scalar_cost(e.placement)))
        rows.append(report(digital, name, best.placement, len(pool)))
    return rows


def tail(plan: Plan, job: Job, store: Store, before: list[Row]) -> list[Row]:
    """Measure the 1 % percentile over many chips for the rows of another job."""
    rows = []
    for row in before:
        if row["method"].startswith("from_site"):
            continue
        task = plan.task(job, row["sigma"], report_chips=plan.percentile_chips, report_images=plan.percentile_images)
        without_bank = job.of == "bare" or row["method"].startswith("digital")
        evaluator = digital_evaluator(task, store) if without_bank else MonteCarloEvaluator(task, store, threads=1)
        evaluation = evaluator.evaluate(tuple(row["placement"]), "test", "tuned")
        low, high = evaluation.interval("percentile", QUANTILE) or (float("nan"), float("nan"))
        rows.append(
            {
                "sigma": row["sigma"],
                "method": row["method"],
                "p01": evaluation.value("percentile", QUANTILE),
                "p01_low": low,
                "p01_high": high,
                "p01_chips": plan.percentile_chips,
                "p01_images": evaluation.images,
            }
        )
    return rows
