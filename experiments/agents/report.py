"""From the journal to results/agents: the CSV files, the settings as tuned, and all that follows from them."""

from __future__ import annotations

import json
from pathlib import Path

from cimenv.core.yaml_text import written
from cimenv.tasks.evaluators.table import TableEvaluator
from experiments.agents.figures import curves, tuning
from experiments.agents.page import page
from experiments.agents.plan import Plan
from experiments.agents.results import RUNS, TABLES, TESTED, TRIALS, read_groups
from experiments.agents.tables import summary_of, text_of
from experiments.agents.targets import JUDGED, targets
from experiments.lab.journal import Journal
from experiments.lab.rows import Row, write_csv
from experiments.lab.table_files import located
from experiments.lab.targets import write_targets

TUNED = "tuned.yaml"


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write the CSV files and what follows from them."""
    rows = journal.finished(plan.stages(journal.rows))
    trials = [{**row, "settings": json.dumps(row["settings"])} for row in rows if row["kind"] == "tune"]
    if trials:
        write_csv(out / TRIALS, trials)
        (out / TUNED).write_text(written(plan.as_tuned(journal.rows)))
    for kind, name in (("test", TESTED), ("run", RUNS)):
        if of_kind := [{"group": plan.tables[row["table"]], **row} for row in rows if row["kind"] == kind]:
            write_csv(out / name, of_kind)
    if any(row["kind"] == "run" for row in rows):
        write_csv(out / TABLES, [about(table, group) for table, group in plan.tables.items()])
        write_report(out)


def about(name: str, group: str) -> Row:
    """Return what a table holds, and how many of its placements are as good as the best."""
    table = TableEvaluator(located(name))
    return {
        "group": group,
        "table": name,
        "placements": len(table.enumeration.rows),
        "chips": table.enumeration.header.chips,
        "images": table.enumeration.header.images,
        "optimum": table.extremes[0],
        "mean": table.extremes[1],
        "indistinguishable": table.indistinguishable(),
    }


def write_report(out: Path) -> None:
    """Write table.md, summary.md, targets.json, the figures and index.html from the CSV files of a folder.

    Raises:
        ConfigError: they are not there.
    """
    groups = read_groups(out)
    text = text_of(groups)
    (out / "table.md").write_text(text)
    (out / "summary.md").write_text(summary_of({name: groups[name] for name in JUDGED if name in groups} or groups))
    write_targets(out, targets(groups))
    figures = {f"regret-{group}": curves(results) for group, results in groups.items()}
    first = next(iter(groups.values()))
    if first.trials:
        figures["tuning"] = tuning(first)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=120)
    (out / "index.html").write_text(page("Where to put compensation blocks: searches and agents", text, figures))
