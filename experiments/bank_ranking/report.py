"""From the journal to ranking.csv, table.md, targets.json and ranking.png."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from cimenv.evaluation.intervals import rank_correlation
from experiments.bank_ranking.plan import Plan
from experiments.lab.folders import command_of
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import Floats, Row, write_csv
from experiments.lab.targets import Target, target, write_targets

FITS = ("bank", "stand_alone", "tuned")


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = journal.finished(plan.stages())
    if not rows:
        return
    write_csv(out / "ranking.csv", rows)
    ranking = merits(values_of(rows))
    (out / "table.md").write_text(text_of(ranking, len(rows)))
    write_targets(out, targets(ranking, len(rows), command_of(out.name)))
    figure(values_of(rows)).savefig(out / "ranking.png", dpi=120)


def values_of(rows: list[Row]) -> Floats:
    """Return accuracies with the bank's blocks, with blocks fitted alone, and with tuned ones, `[placements, 3]`."""
    return np.array([[row[name] for name in FITS] for row in rows])


def merits(values: Floats) -> dict[str, float]:
    """Return Kendall's tau and the gap of the bank's top five, from rows of (bank, stand-alone, tuned)."""
    bank, alone, tuned = values.T
    top = np.argsort(-bank)[:5]
    return {
        "tau_stand_alone": rank_correlation(bank, alone),
        "tau_tuned": rank_correlation(bank, tuned),
        "top5_gap_tuned": float(tuned.max() - tuned[top].max()),
        "top5_gap_stand_alone": float(alone.max() - alone[top].max()),
        "mean_bank": float(bank.mean()),
        "mean_stand_alone": float(alone.mean()),
        "mean_tuned": float(tuned.mean()),
    }


def text_of(ranking: dict[str, float], count: int) -> str:
    """Return how the bank ranks placements beside the fits, as Markdown."""
    rows = []
    for name, label in (("stand_alone", "fitted from scratch for the placement"), ("tuned", "the bank's, tuned")):
        if not math.isnan(ranking[f"mean_{name}"]):
            tau, gap = f"{ranking[f'tau_{name}']:.3f}", f"{ranking[f'top5_gap_{name}']:.2%}"
            rows.append([label, f"{ranking[f'mean_{name}']:.2%}", tau, gap])
    caption = (
        f"{count} random placements; their mean accuracy with the bank's blocks is {ranking['mean_bank']:.2%}. Gap: "
        "the best of the bank's top five below the best of all.\n\n"
    )
    return caption + table(["blocks", "mean accuracy", "Kendall's tau to the bank", "gap"], rows)


def targets(ranking: dict[str, float], count: int, command: str) -> list[Target]:
    """Return every promise with its measured value."""
    own = "tuned" if math.isnan(ranking["tau_stand_alone"]) else "stand_alone"
    tau, gap = ranking[f"tau_{own}"], ranking["top5_gap_tuned"]
    name = f"Kendall tau of bank and {own.replace('_', '-')} fits, {count} random placements"
    best = f"best tuned of the bank's top five below the best of all {count}"
    return [
        target(name, ">= 0.6", tau, tau >= 0.6, command),
        target(best, "<= 0.005", gap, gap <= 0.005, command),
    ]


def figure(values: Floats) -> Any:
    """Return accuracy with fitted blocks against that with the bank's."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(5, 4.5), layout="constrained")
    axes = drawn.subplots()
    if not np.isnan(values[:, 1]).any():
        axes.plot(values[:, 0], values[:, 1], "o", ms=4, label="fitted alone from scratch")
    axes.plot(values[:, 0], values[:, 2], "x", ms=5, label="bank, tuned further")
    ends = [np.nanmin(values), np.nanmax(values)]
    axes.plot(ends, ends, color="#999999", lw=1, ls=":")
    axes.set_xlabel("mean accuracy with the bank's blocks")
    axes.set_ylabel("mean accuracy with fitted blocks")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    return drawn
