"""The questions that tables, targets and figures ask of the rows."""

from __future__ import annotations

from experiments.deep.plan import Plan
from experiments.lab.rows import Row, select

METHODS = {
    "none": "no blocks",
    "affine": "affine everywhere",
    "greedy": "greedy",
    "agent": "agent",
    "all": "largest in the budget",
    "all_and_affine": "largest in the budget, affine elsewhere",
    "digital": "digital at the agent's cost",
}


def own_sigma(plan: Plan, problem: str) -> float:
    """Return the strength of a problem's variation."""
    recipe = next(iter(plan.problems[problem].recipes))
    return float(getattr(plan.task(plan.job("curve", problem, recipe)).crossbar.device, "sigma", 0.0))


def affordable(rows: list[Row], problem: str) -> list[Row]:
    """Return the placements of blocks (or of none) within 2 % more weights and 10 % more MACs."""
    placed = [row for row in select(rows, kind="blocks", problem=problem) if row["method"] != "digital"]
    return [row for row in placed if row["weights"] <= 0.02 and row["macs"] <= 0.10]


def preferred(rows: list[Row], problem: str) -> Row | None:
    """Return the affordable placement that validation prefers, or None before any is measured."""
    return max(affordable(rows, problem), key=lambda row: row["validation"], default=None)


def kept(row: Row) -> float:
    """Return the mean accuracy as a share of the standard network's clean accuracy."""
    return float(row["mean"] / row["standard_clean"])


def gain(rows: list[Row], problem: str, recipe: str) -> float:
    """Return what the preferred placement on one network adds on validation; less than 0 where none was measured."""
    placements = select(rows, kind="blocks", problem=problem, recipe=recipe)
    best = preferred(placements, problem)
    return float(best["validation"] - select(placements, method="none")[0]["validation"]) if best else -1.0
