"""From the journal to results/agents_seeds: seeds.csv, table.md and targets.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.agents_seeds.plan import Plan
from experiments.lab.folders import command_of
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import NAN, Floats, Row, select, write_csv
from experiments.lab.targets import Target, target, write_targets

COMMAND = command_of("agents_seeds")
WITHIN = 0.01


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = journal.finished(plan.stages())
    if rows:
        write_csv(out / "seeds.csv", rows)
        (out / "table.md").write_text(text_of(rows))
        write_targets(out, targets(rows))


def shares(rows: list[Row], algorithm: str, which: str) -> Floats:
    """Return the objective as a share of the optimum's, a number a seed."""
    return np.array([row[f"{which}_objective"] / row["optimum"] for row in select(rows, algorithm=algorithm)])


def text_of(rows: list[Row]) -> str:
    """Return a line an algorithm, as Markdown."""
    head = ["algorithm", "seeds", "evaluations", "final J / optimum: median (least, most)", "best seen J / optimum"]
    lines = []
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        final, best = shares(rows, name, "final"), shares(rows, name, "best")
        spent = max(row["evaluations"] for row in select(rows, algorithm=name))
        parts = [f"{np.median(x):.3f} ({x.min():.3f}, {x.max():.3f})" for x in (final, best)]
        within = f"{int((final >= 1 - WITHIN).sum())} of {len(final)}"
        lines.append([name, str(len(final)), str(spent), *parts, within])
    return table([*head, f"final within {WITHIN:.0%}"], lines)


def targets(rows: list[Row]) -> list[Target]:
    """Return the target on the agent of the default task: seed 0, which the demonstration runs, and the median."""
    entries = []
    for what, measured in (
        ("seed 0", shares(select(rows, seed=0), "maskable_ppo", "final")),
        ("median over seeds", shares(rows, "maskable_ppo", "final")),
    ):
        share = float(np.median(measured)) if len(measured) else NAN
        name = f"MaskablePPO's final placement on the default task, {what}: share of the enumerated optimum's J"
        entries.append(target(name, f">= {1 - WITHIN}", share, share >= 1 - WITHIN, COMMAND))
    return entries
