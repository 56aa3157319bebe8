"""From the journal to results/agents: runs.csv, trials.csv, and all that follows from them."""

from __future__ import annotations

import json
from pathlib import Path

from agents.compare.figures import curves, tuning
from agents.compare.page import page
from agents.compare.plan import Plan
from agents.compare.results import RUNS, TRIALS, Results
from agents.compare.tables import table
from agents.study import Journal, write_csv


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write the CSV files and what follows from them."""
    rows = journal.finished(plan.stages(journal.rows))
    trials = [{**row, "settings": json.dumps(row["settings"])} for row in rows if row["kind"] == "tune"]
    runs = [row for row in rows if row["kind"] == "run"]
    if trials:
        write_csv(out / TRIALS, trials)
    if runs:
        write_csv(out / RUNS, runs)
        write_report(out)


def write_report(out: Path) -> None:
    """Write table.md, the figures and index.html from the CSV files of a folder.

    Raises:
        ConfigError: they are not there.
    """
    results = Results.read(out)
    text = table(results)
    (out / "table.md").write_text(text)
    figures = {"regret": curves(results)} | ({"tuning": tuning(results)} if results.trials else {})
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=120)
    (out / "index.html").write_text(page("Where to put compensation blocks: searches and agents", text, figures))
