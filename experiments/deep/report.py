"""From the journal to results/deep: results.csv, table.md, targets.json and figures."""

from __future__ import annotations

from pathlib import Path

from experiments.deep.figures import collapse, growth, recovery
from experiments.deep.plan import Plan
from experiments.deep.results import METHODS, affordable, kept, own_sigma, preferred
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import NAN, Row, chips_of, select, with_interval, write_csv
from experiments.lab.targets import Target, target, write_targets

COMMAND = "python -m experiments.deep"
STATISTICS = {
    "none": "as trained",
    "float32": "the same in float32",
    "shared": "shared over chips",
    "per_chip": "of every chip (a calibration)",
}
HELD = 0.95
TWO_DIGIT = ("two-digit-0.5", "two-digit-0.8", "two-digit-1.0")
STANDARD = ("standard", "standard_5", "standard_slow", "standard_small_batches", "standard_decay")
GOALS = {"two-digit-0.8": 0.97, "two-digit-0.5": 0.99}


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = journal.finished(plan.stages())
    if not rows:
        return
    write_csv(out / "results.csv", rows, leave_out=["correct"])
    (out / "table.md").write_text("\n".join(filter(None, [bare(plan, rows), placed(plan, rows)])))
    write_targets(out, targets(rows))
    collapse(plan, rows).savefig(out / "collapse.png", dpi=120)
    if any(row["kind"] == "blocks" for row in rows):
        (out / "summary.md").write_text(summary(plan, rows))
        recovery(plan, rows).savefig(out / "recovery.png", dpi=120)
        growth(plan, rows).savefig(out / "error_growth.png", dpi=120)


def bare(plan: Plan, rows: list[Row]) -> str:
    """Return the accuracy of networks without blocks by batch-norm statistics."""
    caption = (
        f"VGG-16 at a quarter of its width, log-normal variation, test split: {plan.images} images; trained and "
        "evaluated in bfloat16 products but for one column and clean accuracies. Without blocks "
        f"({plan.curve_chips} chips, at the problem's own sigma), by batch-norm statistics:\n\n"
    )
    lines = []
    for name, problem in plan.problems.items():
        for recipe in problem.recipes:
            curves = select(rows, kind="curve", problem=name, recipe=recipe)
            if not curves:
                continue
            own = own_sigma(plan, name)
            cells = [percent(select(curves, statistics=each, sigma=own)) for each in STATISTICS]
            lines.append([name, recipe, f"{curves[0]['clean_whole_split']:.1%}", *cells])
    return caption + table(["problem", "recipe", "clean", *STATISTICS.values()], lines, words=2)


def placed(plan: Plan, rows: list[Row]) -> str:
    """Return what every placement reaches and costs; nothing before one is measured."""
    lines = []
    for row in select(rows, kind="blocks"):
        cells = [row["problem"], row["recipe"], METHODS[row["method"]], percent([row])]
        cells += [f"{kept(row):.1%}", f"{row['weights']:.2%}", f"{row['macs']:.1%}"]
        lines.append([*cells, f"+{row['energy']:.1%}", str(row["evaluations"])])
    caption = (
        f"Placements with fitted blocks, {plan.chips} fresh chips; chosen on validation within 2 % more weights and "
        "10 % more MACs:\n\n"
    )
    head = ["problem", "recipe", "blocks", "mean", "of standard clean", "+weights", "+MACs", "energy", "evaluations"]
    return caption + table(head, lines, words=3) if lines else ""


def summary(plan: Plan, rows: list[Row]) -> str:
    """Return one column a problem and one row a training: without blocks, and with those that validation prefers."""
    shown = [name for name in plan.problems if select(rows, kind="blocks", problem=name)]
    recipes = list(dict.fromkeys(recipe for name in shown for recipe in plan.problems[name].recipes))
    lines = [
        [recipe.replace("_", " "), *(with_best_blocks(plan, rows, name, recipe) for name in shown)]
        for recipe in recipes
        if recipe not in STANDARD[1:]
    ]
    return table(["", *shown], lines)


def with_best_blocks(plan: Plan, rows: list[Row], problem: str, recipe: str) -> str:
    """Return the accuracy of a network, and that with its best placement and what this adds in weights and MACs."""
    placements = select(rows, kind="blocks", problem=problem, recipe=recipe)
    best = preferred(placements, problem)
    if best is None:
        own = own_sigma(plan, problem)
        return percent(select(rows, kind="curve", problem=problem, recipe=recipe, statistics="none", sigma=own))
    none = percent(select(placements, method="none"))
    return f"{none} → {percent([best])} (+{best['weights']:.1%}, +{best['macs']:.0%})"


def percent(rows: list[Row]) -> str:
    """Return the mean accuracy of a row over chips with its 95 % interval."""
    return with_interval(chips_of(rows[0])) if rows else ""


def targets(rows: list[Row]) -> list[Target]:
    """Return every target with what was measured."""
    entries = []
    standard = select(rows, kind="curve", problem="two-digit-0.8", recipe="standard", statistics="none")
    trained = [row for name in STANDARD for row in select(rows, recipe=name) if "clean_whole_split" in row]
    clean = {row["recipe"]: row["clean_whole_split"] for row in trained if row["problem"] == "two-digit-0.8"}
    best_trained = max(clean, key=lambda recipe: clean[recipe], default="standard")
    reached = clean.get(best_trained, NAN)
    what = f"two-digit, {best_trained} (the best on test of {len(clean)} standard trainings): clean accuracy"
    entries.append(target(what, ">= 0.988", reached, reached >= 0.988, COMMAND))
    bare = next((row["mean"] for row in standard if row["sigma"] == 0.8), NAN)
    entries.append(target("two-digit, standard, sigma 0.8 without blocks", "< 0.03", bare, bare < 0.03, COMMAND))
    for problem, goal in GOALS.items():
        best = preferred(rows, problem)
        share = kept(best) if best else NAN
        what = f" ({best['recipe']}, {METHODS[best['method']]})" if best else ""
        name = f"{problem}: share of standard clean, <= 2 % weights, <= 10 % MACs{what}"
        entries.append(target(name, f">= {goal}", share, share >= goal, COMMAND))
    for what, held in (
        ("training alone", select(rows, kind="curve", statistics="none")),
        ("training and blocks", [row for name in TWO_DIGIT for row in affordable(rows, name)]),
    ):
        sigmas = [r["sigma"] for r in held if r["problem"] in TWO_DIGIT and kept(r) >= HELD]
        largest = max(sigmas, default=NAN)
        entries.append(
            target(f"largest measured sigma at which {what} holds {HELD:.0%}", "told", largest, True, COMMAND)
        )
    return entries
