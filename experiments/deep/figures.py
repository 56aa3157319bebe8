"""The figures of results/deep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimenv.evaluation.intervals import mean_interval
from experiments.deep.plan import Plan
from experiments.deep.results import METHODS, gain, own_sigma
from experiments.lab.figures import legend_below, panels
from experiments.lab.rows import Row, chips_of, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^Xv"  # one a training


def problem_panels(plan: Plan, rows: list[Row], kind: str) -> tuple[Figure, list[tuple[str, Axes]]]:
    """Return a figure with a panel for every problem that has rows of a kind, three in a line."""
    names = [name for name in plan.problems if select(rows, kind=kind, problem=name)]
    columns = min(3, len(names))
    figure, axes = panels(columns, -(-len(names) // columns), width=4.4, height=3.6, more=0.6)
    shown = list(zip(names, axes.flat, strict=False))
    for name, ax in shown:
        ax.set_title(name)
        ax.grid(alpha=0.25)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    return figure, shown


def collapse(plan: Plan, rows: list[Row]) -> Figure:
    """Draw accuracy against sigma without blocks."""
    figure, shown = problem_panels(plan, rows, "curve")
    recipes = list(dict.fromkeys(recipe for problem in plan.problems.values() for recipe in problem.recipes))
    for name, ax in shown:
        for recipe in plan.problems[name].recipes:
            points = select(rows, kind="curve", problem=name, recipe=recipe, statistics="none")
            chips = [chips_of(row) for row in points]
            if points:
                means, spread = [each.mean() for each in chips], [each.std(ddof=1) for each in chips]
                sigmas = [row["sigma"] for row in points]
                color = f"C{recipes.index(recipe)}"
                ax.errorbar(sigmas, means, spread, marker="o", ms=3, capsize=2, color=color, label=recipe)
        ax.axvline(own_sigma(plan, name), color="#888888", lw=0.8, ls="--")
        ax.set(xlabel="sigma of the log-normal variation", ylim=(0, 1.02))
    figure.axes[0].set_ylabel("accuracy (mean, standard deviation over chips)")
    legend_below(figure, 5)
    return figure


def recovery(plan: Plan, rows: list[Row]) -> Figure:
    """Draw what every placement recovers against the weights that it adds."""
    figure, shown = problem_panels(plan, rows, "blocks")
    recipes = list(dict.fromkeys(row["recipe"] for row in select(rows, kind="blocks")))
    for name, ax in shown:
        placed = select(rows, kind="blocks", problem=name)
        for row in placed:
            chips = chips_of(row)
            low, high = mean_interval(chips)
            interval, color = [[chips.mean() - low], [high - chips.mean()]], f"C{list(METHODS).index(row['method'])}"
            marker = MARKERS[recipes.index(row["recipe"])]
            ax.errorbar(100 * row["weights"], chips.mean(), interval, fmt=marker, color=color)
        ax.axhline(placed[0]["standard_clean"], color="#888888", lw=0.8, ls="--")
        ax.set(xlabel="added weights, %")
    for k, what in enumerate(METHODS.values()):
        figure.axes[0].plot([], [], "o", color=f"C{k}", label=what)
    for marker, recipe in zip(MARKERS, recipes, strict=False):
        figure.axes[0].plot([], [], marker, color="#888888", label=recipe)
    figure.axes[0].set_ylabel("test accuracy (95 %; dashed: clean)")
    legend_below(figure, 5)
    return figure


def growth(plan: Plan, rows: list[Row]) -> Figure:
    """Draw the relative feature error along the layers with and without blocks, where these gain most."""
    figure, shown = problem_panels(plan, rows, "blocks")
    for name, ax in shown:
        recipe = max(plan.problems[name].blocks, key=lambda recipe: gain(rows, name, recipe))
        for method in ("none", "affine", "agent", "all_and_affine", "digital"):
            for row in select(rows, kind="blocks", problem=name, recipe=recipe, method=method):
                errors = row["site_error"]
                ax.plot(range(1, 1 + len(errors)), errors, marker="o", ms=3, label=METHODS[method])
        ax.set(xlabel=f"mapped layer ({recipe})", yscale="log", xticks=range(1, 17, 3))
    legend_below(figure, 5)
    figure.axes[0].set_ylabel("relative feature error, mean over chips")
    return figure
