"""The figures of results/worst_case."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from agents.worst_case.report import Results


def draw_all(results: Results, out: Path) -> None:
    """Save every figure that has data."""
    figures = {"worst_against_bound": against_bound, "attack_strength": attack_strength, "attacks": attacks}
    if not results.nets:
        return
    for name, draw in figures.items():
        draw(results).savefig(out / f"{name}.png", dpi=120)


def _panels(results: Results, height: float) -> tuple[Any, Any, list[str]]:
    from matplotlib.figure import Figure

    shown = [data for data in results.plan.data if any(row["data"] == data for row in results.nets)]
    figure = Figure(figsize=(5.6 * len(shown), height), layout="constrained")
    return figure, figure.subplots(1, len(shown), squeeze=False)[0], shown


def against_bound(results: Results) -> Any:
    """Draw the worst case against th_g for every recipe, mean over seeds with their range."""
    figure, axes, shown = _panels(results, 4.6)
    bounds = sorted(results.plan.bounds)
    for ax, data in zip(axes, shown, strict=True):
        for number, recipe in enumerate(results.plan.recipes):
            rows = results.of(data, recipe)
            if not rows:
                continue
            values = np.array([[row["clean"], *(row[f"worst_{b:g}"] for b in bounds)] for row in rows])
            style = "-" if "trice" in recipe else "--" if recipe.startswith("gaussian") else ":"
            ax.plot([0, *bounds], values.mean(0), style, marker="o", ms=3, color=f"C{number % 10}", label=recipe)
            ax.fill_between([0, *bounds], values.min(0), values.max(0), color=f"C{number % 10}", alpha=0.12, lw=0)
        ax.set_xlabel("th_g: largest |dW| / max|W|")
        ax.set_ylabel("accuracy under the ensemble (test)")
        ax.set_title(data)
        ax.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=4, loc="outside lower center")
    return figure


def attack_strength(results: Results) -> Any:
    """Draw the worst accuracy found so far against passes over the images, for every recipe's first seed."""
    figure, axes, shown = _panels(results, 4.2)
    for ax, data in zip(axes, shown, strict=True):
        for number, recipe in enumerate(results.plan.recipes):
            for row in results.of(data, recipe):
                if "curve" in row:
                    passes, accuracy = zip(*((point[3], point[4]) for point in row["curve"]), strict=True)
                    worst = np.minimum.accumulate(accuracy)
                    ax.step(passes, worst, where="post", lw=1.1, color=f"C{number % 10}", label=recipe)
        ax.set_xlabel("passes over all images")
        ax.set_ylabel(f"worst accuracy so far, th_g = {results.first:g}")
        ax.set_title(data)
        ax.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=4, loc="outside lower center")
    return figure


def attacks(results: Results) -> Any:
    """Draw what every member of the ensemble finds on every recipe's network, mean over seeds."""
    figure, axes, shown = _panels(results, 5.0)
    field = f"worst_{results.first:g}_members"
    for ax, data in zip(axes, shown, strict=True):
        recipes = [recipe for recipe in results.plan.recipes if results.of(data, recipe)]
        members = list(results.of(data, recipes[0])[0][field])
        grid = np.array(
            [[np.mean([row[field][member] for row in results.of(data, r)]) for member in members] for r in recipes]
        )
        image = ax.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            ax.text(
                x, y, f"{value:.0%}", ha="center", va="center", fontsize=6, color="white" if value < 0.6 else "black"
            )
        ax.set_xticks(range(len(members)), members, rotation=45, ha="right", fontsize=7)
        ax.set_yticks(range(len(recipes)), recipes, fontsize=7)
        ax.set_title(f"{data}: accuracy left by each attack, th_g = {results.first:g}", fontsize=9)
    figure.colorbar(image, ax=list(axes), label="accuracy")
    return figure
