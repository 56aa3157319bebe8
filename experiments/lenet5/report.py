"""From the rows of finished jobs to results/lenet5: results.csv, table.md, targets.json, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cimenv.evaluation.intervals import mean_interval
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import NAN, Row, chips_of, mean_of, select, write_csv
from experiments.lab.targets import Target, target, write_targets
from experiments.lenet5.figures import draw_all
from experiments.lenet5.plan import Plan

METHODS = {
    "none": "no blocks",
    "affine": "affine everywhere",
    "digital_equal_weights": "digital, same weight budget",
    "digital_equal_cost": "digital, at the agent's cost",
    "knapsack": "knapsack",
    "greedy": "greedy",
    "agent": "agent",
    "optimum": "enumerated optimum",
    "most_accurate": "most accurate in the budget",
    "all_largest": "all-largest",
}
COMMAND = "python -m experiments.lenet5"
FLOORS = {"fashion": 0.90, "mnist": 0.988}
NOISE_SHARE = {"fashion": 0.96, "mnist": 0.993}


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = merged(plan, journal)
    if not rows:
        return
    write_csv(out / "results.csv", rows)
    results = Results(plan, rows)
    (out / "table.md").write_text(text_of(results))
    write_targets(out, targets(results))
    draw_all(results, out)


def merged(plan: Plan, journal: Journal) -> list[Row]:
    """Return the rows of finished jobs in the plan's order, with the tails merged into them."""
    rows: dict[tuple[Any, ...], Row] = {}
    for job in (job for stage in plan.stages() for job in stage if job in journal):
        origin = job.of or job.kind
        for row in journal.rows[job.name]:
            key = (origin, *(row[name] for name in ("data", "recipe", "seed", "sigma", "method")))
            rows.setdefault(key, {"job": origin}).update(row)
    return list(rows.values())


class Results:
    """Rows with the questions that tables, targets and figures ask of them."""

    def __init__(self, plan: Plan, rows: list[Row]) -> None:
        self.plan, self.rows = plan, rows

    def select(self, **wanted: Any) -> list[Row]:
        """Return the rows whose fields equal the given ones."""
        return select(self.rows, **wanted)

    def mean(self, field: str, **wanted: Any) -> float:
        """Return the mean of a field over the training seeds that are done; NaN without rows."""
        return mean_of(self.select(**wanted), field)

    def share(self, **wanted: Any) -> float:
        """Return noisy accuracy as a share of the standard-trained clean accuracy, mean over seeds."""
        rows = self.select(**wanted)
        return float(np.mean([row["mean"] / row["standard_clean"] for row in rows])) if rows else NAN

    def gain(self, over: str, method: str = "agent", **wanted: Any) -> tuple[float, float, float]:
        """Return the paired difference of two methods with its 95 % interval.

        The same chips carry both placements. Differences are averaged over seeds, chip by chip, and the interval is
        Student's over chips.
        """
        ours = {row["seed"]: chips_of(row) for row in self.select(method=method, job="blocks", **wanted)}
        theirs = {row["seed"]: chips_of(row) for row in self.select(method=over, job="blocks", **wanted)}
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            return NAN, NAN, NAN
        difference = np.mean([ours[seed] - theirs[seed] for seed in seeds], axis=0)
        return float(difference.mean()), *mean_interval(difference)


def text_of(results: Results) -> str:
    """Return a sentence on the measurement, and a table for each block sigma."""
    plan = results.plan
    text = (
        f"LeNet-5, log-normal variation, official test split: {plan.chips} fresh chips x {plan.images} images, "
        f"fitted blocks, mean over training seeds; 1 % percentile: {plan.percentile_chips} chips x "
        f"{plan.percentile_images} images, seed {', '.join(map(str, plan.percentile_seeds))}. Budget: at most "
        f"{plan.budget.get('weights', 1):.0%} more weights (all-largest: none). Placements were chosen on validation."
    )
    tables = (_table(results, sigma) for sigma in plan.block_sigmas)
    return "\n".join([f"{text}\n", *filter(None, tables)])


def _table(results: Results, sigma: float) -> str:
    plan = results.plan
    rows = [
        line
        for data in plan.data
        for recipe in plan.recipes
        for method, label in METHODS.items()
        for line in _line(results, data, recipe, sigma, method, label)
    ]
    head = ["data, recipe", "blocks", "seeds", "mean", "std", "1 % pct", "of standard clean", "+weights", "+MACs"]
    return f"Sigma {sigma:g}:\n\n{table([*head, 'cost'], rows, words=2)}" if rows else ""


def _line(results: Results, data: str, recipe: str, sigma: float, method: str, label: str) -> list[list[str]]:
    job = "blocks" if recipe in results.plan.block_recipes else "bare"
    wanted: dict[str, Any] = {"data": data, "recipe": recipe, "sigma": sigma, "method": method, "job": job}
    rows = results.select(**wanted)
    if not rows:
        return []
    p01 = results.mean("p01", **wanted)
    cells = [
        f"{data}, {recipe}",
        label,
        str(len(rows)),
        f"{results.mean('mean', **wanted):.1%}",
        f"{results.mean('std', **wanted):.1%}",
        "" if np.isnan(p01) else f"{p01:.1%}",
        f"{results.share(**wanted):.1%}",
        f"{results.mean('weights', **wanted):.2%}",
        f"{results.mean('macs', **wanted):.1%}",
        f"{results.mean('scalar_cost', **wanted):.3f}",
    ]
    return [cells]


def targets(results: Results) -> list[Target]:
    """Return every target with what was measured; one that was not measured yet is not met."""
    plan, entries = results.plan, []
    sigma = plan.block_sigmas[0]

    def add(name: str, bound: str, measured: float, met: bool, **more: Any) -> None:
        entries.append(target(name, bound, round(measured, 5), met, COMMAND, **more))

    def attempted(data: str, recipe: str) -> tuple[str, ...]:
        longer = data in plan.accurate["data"] and recipe in plan.accurate["recipes"]
        return ("agent", "knapsack", "most_accurate") if longer else ("agent", "knapsack")

    for data in plan.data:
        clean = results.mean("clean_whole_split", data=data, recipe="standard", sigma=0.0, method="none")
        add(f"{data}: clean accuracy, recipe standard", f">= {FLOORS[data]}", clean, clean >= FLOORS[data])
        recipes = [r for r in plan.block_recipes if "noise" in r]
        for recipe in recipes:
            at = {"data": data, "recipe": recipe, "sigma": sigma, "job": "blocks"}
            goal, bare = NOISE_SHARE[data], results.share(method="none", **at)
            for method in attempted(data, recipe):
                share, weights = results.share(method=method, **at), results.mean("weights", method=method, **at)
                name = f"{data}, {recipe}, sigma {sigma:g}: {METHODS[method]}, share of standard clean accuracy"
                met = share >= goal and weights <= 0.05
                add(name, f">= {goal} with <= 5 % weights", share, met, weights=weights, without=bare)
    for recipe in ("standard", "lipschitz"):
        at = {"data": "fashion", "recipe": recipe, "sigma": sigma, "job": "blocks"}
        bare = results.mean("mean", method="none", **at)
        for method in attempted("fashion", recipe):
            lifted = results.mean("mean", method=method, **at)
            name = f"fashion, {recipe}, sigma {sigma:g}: blocks alone, {METHODS[method]}"
            add(name, ">= 0.84 with <= 5 % weights", lifted, lifted >= 0.84, without=bare)
    for data in plan.data:
        for recipe in plan.block_recipes:
            for over in ("affine", "digital_equal_cost", "digital_equal_weights"):
                mean, low, high = results.gain(over, data=data, recipe=recipe, sigma=sigma)
                name = f"{data}, {recipe}, sigma {sigma:g}: agent's placement beyond {over}, paired over chips"
                add(name, "95 % interval above 0", mean, low > 0, interval=[low, high])
    return entries
