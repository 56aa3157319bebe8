"""The figures of results/worst_case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.lab.figures import legend_below, panels

if TYPE_CHECKING:
    from experiments.worst_case.results import Results


def draw_all(results: Results, out: Path) -> None:
    """Save every figure that has data."""
    if not results.nets:
        return
    figures = {"worst_against_bound": against_bound, "attack_strength": attack_strength, "attacks": attacks}
    if any(row["kind"] == "blocks" for row in results.rows):
        figures["blocks"] = blocks
    for name, draw in figures.items():
        draw(results).savefig(out / f"{name}.png", dpi=120)


def _panels(results: Results, height: float) -> tuple[Any, Any, list[str]]:
    shown = [data for data in results.plan.data if results.labels(data)]
    figure, axes = panels(len(shown), width=5.6, height=height)
    return figure, axes[0], shown


def _curves(
    results: Results, height: float, draw: Callable[[Any, str, str, dict[str, Any]], None], x: str, y: str
) -> Any:
    """Draw one curve a recipe into a panel a data set, with one legend below."""
    from matplotlib import colormaps

    figure, axes, shown = _panels(results, height)
    colors = colormaps["tab20"]
    recipes = list(dict.fromkeys(recipe for data in shown for recipe in results.labels(data)))
    for ax, data in zip(axes, shown, strict=True):
        for recipe in results.labels(data):
            style = "-" if "trice" in recipe else "--" if recipe.startswith("gaussian") else ":"
            draw(ax, data, recipe, {"color": colors(recipes.index(recipe)), "linestyle": style, "label": recipe})
        ax.set(xlabel=x, ylabel=y, title=data)
        ax.grid(alpha=0.25)
    legend_below(figure, 2 * len(shown))
    return figure


def against_bound(results: Results) -> Any:
    """Draw the worst case against th_g for every recipe, mean over seeds with their range."""
    bounds = sorted(results.plan.bounds)

    def draw(ax: Any, data: str, recipe: str, style: dict[str, Any]) -> None:
        rows = results.of(data, recipe)
        values = np.array([[row["clean"], *(row[f"worst_{b:g}"] for b in bounds)] for row in rows])
        ax.plot([0, *bounds], values.mean(0), marker="o", ms=3, **style)
        ax.fill_between([0, *bounds], values.min(0), values.max(0), color=style["color"], alpha=0.12, lw=0)

    return _curves(results, 5.6, draw, "th_g: largest |dW| / max|W|", "accuracy under the ensemble (test)")


def attack_strength(results: Results) -> Any:
    """Draw the worst accuracy found so far against passes over the images, for every recipe's first seed."""

    def draw(ax: Any, data: str, recipe: str, style: dict[str, Any]) -> None:
        for row in results.of(data, recipe):
            if "curve" in row:
                passes, accuracy = zip(*((point[3], point[4]) for point in row["curve"]), strict=True)
                ax.step(passes, np.minimum.accumulate(accuracy), where="post", lw=1.1, **style)

    y = f"worst accuracy so far, th_g = {results.first:g}"
    return _curves(results, 5.4, draw, "passes over all images", y)


def attacks(results: Results) -> Any:
    """Draw what every member of the ensemble finds on every recipe's network, mean over seeds."""
    figure, axes, shown = _panels(results, 5.0)
    field = f"worst_{results.first:g}_members"
    for ax, data in zip(axes, shown, strict=True):
        recipes = results.labels(data)
        members = list(results.of(data, recipes[0])[0][field])
        grid = np.array(
            [[np.mean([row[field][member] for row in results.of(data, r)]) for member in members] for r in recipes]
        )
        image = ax.imshow(grid, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (y, x), value in np.ndenumerate(grid):
            color = "white" if value < 0.6 else "black"
            ax.text(x, y, f"{value:.0%}", ha="center", va="center", fontsize=6, color=color)
        ax.set_xticks(range(len(members)), members, rotation=45, ha="right", fontsize=7)
        ax.set_yticks(range(len(recipes)), recipes, fontsize=7)
        ax.set_title(f"{data}: accuracy left by each attack, th_g = {results.first:g}", fontsize=9)
    figure.colorbar(image, ax=list(axes), label="accuracy")
    return figure


def blocks(results: Results) -> Any:
    """Draw mean, percentile and worst case of every placement beside those without blocks."""
    figure, axes, shown = _panels(results, 4.8)
    device, worst = results.plan.blocks.physics, f"worst_{results.first:g}"
    metrics = {f"{device}_mean": "mean", f"{device}_p05": "5 % percentile", worst: "worst case"}
    placements = ("none", "affine", *results.plan.blocks.statistics)
    for ax, data in zip(axes, shown, strict=True):
        recipes = list(dict.fromkeys(row["recipe"] for row in results.kind("blocks", data)))
        ticks = [(recipe, field) for recipe in recipes for field in metrics]
        for number, placed_for in enumerate(placements):
            values = [results.mean(field, data, recipe, placed_for) for recipe, field in ticks]
            left = np.arange(len(ticks)) + (number - len(placements) / 2 + 0.5) * 0.16
            ax.bar(left, values, 0.15, color=f"C{number}", label=placed_for)
        ax.set_xticks(range(len(ticks)), [f"{r}\n{metrics[f]}" for r, f in ticks], rotation=45, ha="right", fontsize=7)
        ax.set(ylabel="accuracy (test)", title=data)
        ax.grid(alpha=0.25, axis="y")
    names = [
        "no blocks",
        "affine everywhere",
        *(f"placed for {statistic}" for statistic in results.plan.blocks.statistics),
    ]
    bars = axes[0].get_legend_handles_labels()[0]
    figure.legend(bars, names, fontsize=7, frameon=False, ncols=3, loc="outside lower center")
    return figure
