"""Does the learned surrogate rank placements that it has not seen?

`python -m experiments.surrogate [OUT] [TABLE ...]`, by default every table that ships. From a few random
placements of an enumerated table, the regression of `cimenv.search.surrogate` predicts the accuracy of all others.
Writes ranking.csv (a row a table, number of placements and draw), table.md and ranking.png.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from cimenv.compensation.options import Placement
from cimenv.core.checked_rows import write_rows
from cimenv.core.inert import in_figure
from cimenv.core.progress import bar
from cimenv.core.seeding import numpy_generator
from cimenv.search.moves import random_placement
from cimenv.search.surrogate import Ridge
from cimenv.tasks.evaluators.table import TableEvaluator, shipped_tables

KNOWN = (12, 25, 50, 100)
DRAWS = 20
UNSEEN = 30  # fewer placements than that are no ranking


class Ranking(NamedTuple):
    """How one regression ranks the placements that it has not seen."""

    table: str
    placements: int
    known: int
    draw: int
    tau: float
    """Kendall's tau of predicted and enumerated accuracy over all unseen placements"""
    left_out: float
    """the same over the known ones, each predicted from the others: what a search can state"""
    regret: float
    """of the placement whose predicted objective is best, among all"""


def rankings(table: str) -> list[Ranking]:
    """Return the rankings of one table, for every number of known placements and every draw."""
    evaluator = TableEvaluator(table)
    objective = evaluator.objective
    rows = [evaluator.evaluate(row.placement) for row in evaluator.enumeration.rows]
    accuracies = {row.placement: objective.accuracy(row) for row in rows}
    found = []
    for known in (count for count in KNOWN if count + UNSEEN <= len(accuracies)):
        for draw in range(DRAWS):
            drawn = some(evaluator, known, draw)
            fit = Ridge(evaluator.space, {placement: accuracies[placement] for placement in drawn})
            unseen = [placement for placement in accuracies if placement not in drawn]
            predicted = dict(zip(unseen, fit.predict(unseen)[0], strict=True))
            tau = stats.kendalltau([accuracies[p] for p in unseen], list(predicted.values())).statistic
            believed = accuracies | predicted
            best = max(accuracies, key=lambda p: objective.of_accuracy(believed[p], p))
            regret = evaluator.regret(objective.of_accuracy(accuracies[best], best))
            found.append(Ranking(table, len(accuracies), known, draw, float(tau), fit.rank_correlation, regret))
    return found


def some(evaluator: TableEvaluator, count: int, draw: int) -> list[Placement]:
    """Return distinct random feasible placements."""
    generator = numpy_generator("surrogate-ranking", count, draw)
    found: dict[Placement, None] = {}
    while len(found) < count:
        found[random_placement(evaluator.space, generator)] = None
    return list(found)


def table_of(found: list[Ranking]) -> str:
    """Return a line a table: tau and regret by number of known placements, means over draws."""
    counts = sorted({row.known for row in found})
    lines = [
        f"Kendall's tau over the unseen placements (regret of the one predicted best), means of {DRAWS} draws:",
        "",
        "| table | placements | " + " | ".join(f"{count} known" for count in counts) + " |",
        "|---|---:" + "|---:" * len(counts) + "|",
    ]
    for table, group in groupby(found, key=lambda row: row.table):
        rows = list(group)
        cells = []
        for count in counts:
            some = [row for row in rows if row.known == count]
            cells.append(f"{mean(r.tau for r in some):.2f} ({mean(r.regret for r in some):.1%})" if some else "")
        lines.append("| " + " | ".join([table, str(rows[0].placements), *cells]) + " |")
    return "\n".join(lines) + "\n"


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers."""
    return float(np.mean(list(values)))


def draw_figure(found: list[Ranking], path: Path) -> None:
    """Save tau against the number of known placements, a line a table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for k, (table, group) in enumerate(groupby(found, key=lambda row: row.table)):
        by_count = {count: [row.tau for row in rows] for count, rows in groupby(list(group), key=lambda row: row.known)}
        means, line = [np.mean(taus) for taus in by_count.values()], "-" if k < 10 else "--"
        axes.plot(list(by_count), means, color=f"C{k % 10}", ls=line, marker="o", ms=3, label=in_figure(table))
    axes.set(xlabel="placements evaluated", ylabel="Kendall's tau over all others", xscale="log", ylim=(0, 1))
    axes.set_xticks(KNOWN, map(str, KNOWN))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=7, handlelength=3, loc="outside right center")
    figure.savefig(path, dpi=120)


def main(arguments: list[str]) -> None:
    """Run the experiment."""
    if any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return
    folder, tables = Path(arguments[0] if arguments else "results/surrogate"), arguments[1:] or shipped_tables()
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Ranking] = []
    with bar("tables", len(tables)) as advance:
        for table in tables:
            found += rankings(table)
            advance()
    write_rows(folder / "ranking.csv", Ranking._fields, found)
    (folder / "table.md").write_text(table_of(found))
    draw_figure(found, folder / "ranking.png")
    print(table_of(found))


if __name__ == "__main__":
    main(sys.argv[1:])
