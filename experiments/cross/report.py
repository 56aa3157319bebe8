"""From the journal to results/cross: results.csv, table.md and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.cross.plan import Plan
from experiments.lab.figures import panels
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import Floats, Row, chips_of, mean_of, select, with_interval, write_csv

BLOCKS = {"none": "no blocks", "affine": "affine", "digital": "digital channels", "greedy": "greedy blocks"}


class Results:
    """Rows with the questions that table and figure ask of them."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan = plan
        self.rows = journal.finished(plan.stages())

    def of(self, data: str, physics: str, recipe: str, blocks: str) -> list[Row]:
        """Return the rows of one point over its training seeds."""
        return select(self.rows, data=data, physics=physics, recipe=recipe, blocks=blocks)

    def chips(self, data: str, physics: str, recipe: str, blocks: str) -> Floats:
        """Return the accuracy of every chip of every seed."""
        return np.concatenate([chips_of(row) for row in self.of(data, physics, recipe, blocks)])

    def recipes(self, data: str, physics: str) -> list[str]:
        """Return the recipes that are measured on some chips."""
        return [recipe for recipe in self.plan.recipes if self.of(data, physics, recipe, "none")]


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    results = Results(plan, journal)
    if not results.rows:
        return
    write_csv(out / "results.csv", results.rows, leave_out=["correct"])
    (out / "table.md").write_text("\n".join([everything(results), best(results)]))
    for data in plan.data:
        figure(results, data).savefig(out / f"{data}.png", dpi=120)


def everything(results: Results) -> str:
    """Return mean and 5 % percentile of every training under every physics, with and without blocks."""
    plan = results.plan
    caption = (
        f"LeNet-5: mean over {plan.chips} fresh chips x {plan.images} test images of every training seed with its 95 % "
        "interval over chips (5 % percentile of the same chips). Blocks fitted for the placement; blocks and digital "
        "channels chosen on validation within the same budget of weights; MACs were not limited.\n\n"
    )
    head = ["data, physics", "training", "seeds", "clean", *BLOCKS.values(), "weights, MACs of blocks"]
    lines = []
    for data in plan.data:
        for physics in plan.physics:
            for recipe in results.recipes(data, physics):
                rows = {blocks: results.of(data, physics, recipe, blocks) for blocks in ("greedy", "digital")}
                chips = [results.chips(data, physics, recipe, blocks) for blocks in BLOCKS]
                points = [f"{with_interval(values)} ({np.quantile(values, 0.05):.1%})" for values in chips]
                clean = mean_of(rows["greedy"], "clean")
                costs = [
                    f"{mean_of(of_blocks, 'weights'):.1%}, {mean_of(of_blocks, 'macs'):.0%}"
                    for of_blocks in rows.values()
                ]
                lines.append([f"{data}, {physics}", recipe, str(len(rows["greedy"])), f"{clean:.1%}", *points, *costs])
    return caption + table([*head, "of digital channels"], lines, words=2)


def best(results: Results) -> str:
    """Return which training is best under every physics, and by how much, over the same chips."""
    lines = []
    for data in results.plan.data:
        for physics in results.plan.physics:
            recipes = results.recipes(data, physics)
            seeds = {len(results.of(data, physics, recipe, "none")) for recipe in recipes}
            if "standard" not in recipes or len(recipes) < 2 or len(seeds) > 1:
                continue  # something to compare with is still missing
            for blocks in BLOCKS:
                chips = {recipe: results.chips(data, physics, recipe, blocks) for recipe in recipes}
                first, second, *_ = sorted(chips, key=lambda recipe: -chips[recipe].mean())
                lead, gain = chips[first] - chips[second], chips[first] - chips["standard"]
                beyond = [f"{with_interval(lead)} ({second})", with_interval(gain)]
                lines.append([f"{data}, {physics}", BLOCKS[blocks], first, *beyond])
    return table(
        ["data, physics", "blocks", "best training", "beyond the next", "best beyond standard"], lines, words=3
    )


def figure(results: Results, data: str) -> Any:
    """Return a panel a physics: accuracy of every training with and without blocks."""
    plan = results.plan
    drawn, (axes,) = panels(len(plan.physics), width=3.6, height=3.8)
    for ax, physics in zip(axes, plan.physics, strict=True):
        recipes = results.recipes(data, physics)
        for k, (blocks, label) in enumerate(BLOCKS.items()):
            chips = [results.chips(data, physics, recipe, blocks) for recipe in recipes]
            at = np.arange(len(recipes)) + 0.18 * (k - 1.5)
            means = [values.mean() for values in chips]
            tails = [values.mean() - np.quantile(values, 0.05) for values in chips]
            ax.errorbar(at, means, [tails, np.zeros(len(tails))], fmt="o", ms=4, lw=1, label=label)
        ax.set(title=physics.replace("_", " "), xticks=range(len(recipes)))
        ax.set_xticklabels(recipes, rotation=40, ha="right")
        ax.grid(alpha=0.25, axis="y")
    axes[0].set_ylabel("test accuracy (mean, 5 % percentile)")
    axes[0].legend(frameon=False, fontsize=7, loc="lower right")
    return drawn
