"""From the journal to results/deep: results.csv, table.md, targets.json and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cimenv.evaluation.metrics import mean_interval
from experiments.deep.plan import Plan
from experiments.lab.journal import Journal
from experiments.lab.rows import Row, write_csv
from experiments.lab.targets import target, write_targets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMMAND = "python -m experiments.deep"
NAN = float("nan")
METHODS = {
    "none": "no blocks",
    "affine": "affine everywhere",
    "greedy": "greedy",
    "agent": "agent",
    "all": "largest in the budget",
    "all_and_affine": "largest in the budget, affine elsewhere",
    "digital": "digital at the agent's cost",
}
STATISTICS = {
    "none": "as trained",
    "float32": "the same in float32",
    "shared": "shared over chips",
    "per_chip": "of every chip (a calibration)",
}
MARKERS = "osD^Xv"  # one a training
HELD = 0.95
TWO_DIGIT = ("two-digit-0.5", "two-digit-0.8", "two-digit-1.0")
STANDARD = ("standard", "standard_5", "standard_slow", "standard_small_batches", "standard_decay")
GOALS = {"two-digit-0.8": 0.97, "two-digit-0.5": 0.99}


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = journal.finished(plan.stages())
    if not rows:
        return
    write_csv(out / "results.csv", [{k: v for k, v in row.items() if k != "correct"} for row in rows])
    (out / "table.md").write_text(table(plan, rows))
    write_targets(out, targets(rows))
    collapse(plan, rows).savefig(out / "collapse.png", dpi=120)
    if any(row["kind"] == "blocks" for row in rows):
        (out / "summary.md").write_text(summary(plan, rows))
        recovery(plan, rows).savefig(out / "recovery.png", dpi=120)
        growth(plan, rows).savefig(out / "error_growth.png", dpi=120)


def select(rows: list[Row], **wanted: Any) -> list[Row]:
    """Return the rows whose fields equal the given ones."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def table(plan: Plan, rows: list[Row]) -> str:
    """Return two tables: networks without blocks by batch-norm statistics, and placements."""
    lines = [
        f"VGG-16 at a quarter of its width, log-normal variation, test split: {plan.images} images; trained and "
        "evaluated in bfloat16 products but for one column and clean accuracies. Without blocks "
        f"({plan.curve_chips} chips, at the problem's own sigma), by batch-norm statistics:",
        "",
        "| problem | recipe | clean | " + " | ".join(STATISTICS.values()) + " |",
        "|---|---|---:" + "|---:" * len(STATISTICS) + "|",
    ]
    for name, problem in plan.problems.items():
        for recipe in problem.recipes:
            found = select(rows, kind="curve", problem=name, recipe=recipe)
            if not found:
                continue
            own = own_sigma(plan, name)
            cells = [percent(select(found, statistics=each, sigma=own)) for each in STATISTICS]
            lines.append("| " + " | ".join([name, recipe, f"{found[0]['clean_whole_split']:.1%}", *cells]) + " |")
    placed = [row for row in rows if row["kind"] == "blocks"]
    if placed:
        lines += [
            "",
            f"Placements with fitted blocks, {plan.chips} fresh chips; chosen on validation within 2 % more weights "
            "and 10 % more MACs:",
            "",
            "| problem | recipe | blocks | mean | of standard clean | +weights | +MACs | energy | evaluations |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
        ]
    for row in placed:
        cells = [row["problem"], row["recipe"], METHODS[row["method"]], percent([row])]
        cells += [f"{kept(row):.1%}", f"{row['weights']:.2%}", f"{row['macs']:.1%}"]
        lines.append("| " + " | ".join([*cells, f"+{row['energy']:.1%}", str(row["evaluations"])]) + " |")
    return "\n".join(lines) + "\n"


def summary(plan: Plan, rows: list[Row]) -> str:
    """Return one column a problem and one row a training: without blocks, and with those that validation prefers."""
    shown = [name for name in plan.problems if select(rows, kind="blocks", problem=name)]
    recipes = list(dict.fromkeys(recipe for name in shown for recipe in plan.problems[name].recipes))
    lines = ["| | " + " | ".join(shown) + " |", "|---|" + "---:|" * len(shown)]
    for recipe in recipes:
        if recipe not in STANDARD[1:]:
            cells = [with_best_blocks(plan, rows, name, recipe) for name in shown]
            lines.append(f"| {recipe.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def with_best_blocks(plan: Plan, rows: list[Row], problem: str, recipe: str) -> str:
    """Return the accuracy of a network, and that with its best placement and what this adds in weights and MACs."""
    found = select(rows, kind="blocks", problem=problem, recipe=recipe)
    best = preferred(found, problem)
    if best is None:
        own = own_sigma(plan, problem)
        return percent(select(rows, kind="curve", problem=problem, recipe=recipe, statistics="none", sigma=own))
    return f"{percent(select(found, method='none'))} → {percent([best])} (+{best['weights']:.1%}, +{best['macs']:.0%})"


def percent(rows: list[Row]) -> str:
    """Return the mean accuracy of a row over chips with its 95 % interval."""
    if not rows:
        return ""
    chips = chips_of(rows[0])
    low, high = mean_interval(chips)
    return f"{chips.mean():.1%} ± {(high - low) / 2:.1%}"


def own_sigma(plan: Plan, problem: str) -> float:
    """Return the strength of a problem's variation."""
    recipe = next(iter(plan.problems[problem].recipes))
    return float(getattr(plan.task(plan.job("curve", problem, recipe)).crossbar.device, "sigma", 0.0))


def targets(rows: list[Row]) -> list[dict[str, Any]]:
    """Return every target with what was measured."""
    found = []
    standard = select(rows, kind="curve", problem="two-digit-0.8", recipe="standard", statistics="none")
    trained = [row for name in STANDARD for row in select(rows, recipe=name) if "clean_whole_split" in row]
    clean = {row["recipe"]: row["clean_whole_split"] for row in trained if row["problem"] == "two-digit-0.8"}
    best_trained = max(clean, key=lambda recipe: clean[recipe], default="standard")
    reached = clean.get(best_trained, NAN)
    what = f"two-digit, {best_trained} (the best on test of {len(clean)} standard trainings): clean accuracy"
    found.append(target(what, ">= 0.988", reached, reached >= 0.988, COMMAND))
    bare = next((row["mean"] for row in standard if row["sigma"] == 0.8), NAN)
    found.append(target("two-digit, standard, sigma 0.8 without blocks", "< 0.03", bare, bare < 0.03, COMMAND))
    for problem, goal in GOALS.items():
        best = preferred(rows, problem)
        share = kept(best) if best else NAN
        what = f" ({best['recipe']}, {METHODS[best['method']]})" if best else ""
        name = f"{problem}: share of standard clean, <= 2 % weights, <= 10 % MACs{what}"
        found.append(target(name, f">= {goal}", share, share >= goal, COMMAND))
    for what, held in (
        ("training alone", select(rows, kind="curve", statistics="none")),
        ("training and blocks", [row for name in TWO_DIGIT for row in affordable(rows, name)]),
    ):
        sigmas = [r["sigma"] for r in held if r["problem"] in TWO_DIGIT and kept(r) >= HELD]
        largest = max(sigmas, default=NAN)
        found.append(target(f"largest measured sigma at which {what} holds {HELD:.0%}", "told", largest, True, COMMAND))
    return found


def affordable(rows: list[Row], problem: str) -> list[Row]:
    """Return the placements of blocks (or of none) within 2 % more weights and 10 % more MACs."""
    placed = [row for row in select(rows, kind="blocks", problem=problem) if row["method"] != "digital"]
    return [row for row in placed if row["weights"] <= 0.02 and row["macs"] <= 0.10]


def preferred(rows: list[Row], problem: str) -> Row | None:
    """Return the affordable placement that validation prefers; None before any is measured."""
    return max(affordable(rows, problem), key=lambda row: row["validation"], default=None)


def kept(row: Row) -> float:
    """Return the mean accuracy as a share of the standard network's clean accuracy."""
    return float(row["mean"] / row["standard_clean"])


def gain(rows: list[Row], problem: str, recipe: str) -> float:
    """Return what the preferred placement on one network adds on validation; less than 0 where none was measured."""
    found = select(rows, kind="blocks", problem=problem, recipe=recipe)
    best = preferred(found, problem)
    return float(best["validation"] - select(found, method="none")[0]["validation"]) if best else -1.0


def panels(plan: Plan, rows: list[Row], kind: str) -> tuple[Figure, list[tuple[str, Axes]]]:
    """Return a figure with a panel for every problem that has rows of a kind."""
    from matplotlib.figure import Figure

    names = [name for name in plan.problems if select(rows, kind=kind, problem=name)]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * lines + 0.6), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name)
        ax.grid(alpha=0.25)
    for ax in axes[len(names) :]:
        ax.remove()
    return figure, list(zip(names, axes, strict=False))


def legend_of_all(figure: Figure) -> None:
    """Put one legend for all panels below them."""
    found = [pair for ax in figure.axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    by_label = {label: handle for handle, label in found}
    columns = min(5, len(by_label))
    figure.legend(
        by_label.values(), list(by_label), frameon=False, fontsize=8, ncols=columns, loc="outside lower center"
    )


def chips_of(row: Row) -> npt.NDArray[np.float64]:
    """Return the accuracy of every chip of a row."""
    found: npt.NDArray[np.float64] = np.array(row["correct"]) / row["images"]
    return found


def collapse(plan: Plan, rows: list[Row]) -> Figure:
    """Draw accuracy against sigma without blocks."""
    figure, shown = panels(plan, rows, "curve")
    recipes = list(dict.fromkeys(recipe for problem in plan.problems.values() for recipe in problem.recipes))
    for name, ax in shown:
        for recipe in plan.problems[name].recipes:
            found = select(rows, kind="curve", problem=name, recipe=recipe, statistics="none")
            chips = [chips_of(row) for row in found]
            if found:
                means, spread = [each.mean() for each in chips], [each.std(ddof=1) for each in chips]
                sigmas = [row["sigma"] for row in found]
                color = f"C{recipes.index(recipe)}"
                ax.errorbar(sigmas, means, spread, marker="o", ms=3, capsize=2, color=color, label=recipe)
        ax.axvline(own_sigma(plan, name), color="#888888", lw=0.8, ls="--")
        ax.set(xlabel="sigma of the log-normal variation", ylim=(0, 1.02))
    figure.axes[0].set_ylabel("accuracy (mean, standard deviation over chips)")
    legend_of_all(figure)
    return figure


def recovery(plan: Plan, rows: list[Row]) -> Figure:
    """Draw what every placement recovers against the weights that it adds."""
    figure, shown = panels(plan, rows, "blocks")
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
    legend_of_all(figure)
    return figure


def growth(plan: Plan, rows: list[Row]) -> Figure:
    """Draw the relative feature error along the layers with and without blocks, where these gain most."""
    figure, shown = panels(plan, rows, "blocks")
    for name, ax in shown:
        recipe = max(plan.problems[name].blocks, key=lambda recipe: gain(rows, name, recipe))
        for method in ("none", "affine", "agent", "all_and_affine", "digital"):
            for row in select(rows, kind="blocks", problem=name, recipe=recipe, method=method):
                errors = row["site_error"]
                ax.plot(range(1, 1 + len(errors)), errors, marker="o", ms=3, label=METHODS[method])
        ax.set(xlabel=f"mapped layer ({recipe})", yscale="log", xticks=range(1, 17, 3))
    legend_of_all(figure)
    figure.axes[0].set_ylabel("relative feature error, mean over chips")
    return figure
