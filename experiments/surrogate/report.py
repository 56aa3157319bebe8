"""From rankings to results/surrogate: ranking.csv, table.md and ranking.png."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cimenv.core.checked_rows import write_rows
from cimenv.core.inert import in_figure
from experiments.lab.markdown import table
from experiments.surrogate.measure import DRAWS, KNOWN, Ranking


def write_results(ranked: list[Ranking], out: Path) -> None:
    """Write rows, table and figure."""
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "ranking.csv", Ranking._fields, ranked)
    (out / "table.md").write_text(text_of(ranked))
    figure(ranked).savefig(out / "ranking.png", dpi=120)


def text_of(ranked: list[Ranking]) -> str:
    """Return a line a table: tau and regret by number of known placements, means over draws."""
    counts = sorted({row.known for row in ranked})
    caption = (
        f"Kendall's tau over the unseen placements (regret of the one predicted best), means of {DRAWS} draws:\n\n"
    )
    lines = []
    for name, group in groupby(ranked, key=lambda row: row.table):
        rows = list(group)
        cells = []
        for count in counts:
            some = [row for row in rows if row.known == count]
            cells.append(f"{mean(r.tau for r in some):.2f} ({mean(r.regret for r in some):.1%})" if some else "")
        lines.append([name, str(rows[0].placements), *cells])
    return caption + table(["table", "placements", *(f"{count} known" for count in counts)], lines)


def mean(values: Iterable[float]) -> float:
    """Return the mean of some numbers."""
    return float(np.mean(list(values)))


def figure(ranked: list[Ranking]) -> Any:
    """Return tau against the number of known placements, a line a table."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = drawn.subplots()
    for k, (name, group) in enumerate(groupby(ranked, key=lambda row: row.table)):
        by_count = {count: [row.tau for row in rows] for count, rows in groupby(list(group), key=lambda row: row.known)}
        means, line = [np.mean(taus) for taus in by_count.values()], "-" if k < 10 else "--"
        axes.plot(list(by_count), means, color=f"C{k % 10}", ls=line, marker="o", ms=3, label=in_figure(name))
    axes.set(xlabel="placements evaluated", ylabel="Kendall's tau over all others", xscale="log", ylim=(0, 1))
    axes.set_xticks(KNOWN, map(str, KNOWN))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    drawn.legend(frameon=False, fontsize=7, handlelength=3, loc="outside right center")
    return drawn
