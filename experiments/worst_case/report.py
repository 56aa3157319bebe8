"""From the journal to results/worst_case: results.csv, curves.csv, table.md, targets.json and figures."""

from __future__ import annotations

from pathlib import Path

from experiments.lab.journal import Journal
from experiments.lab.rows import write_csv
from experiments.lab.targets import write_targets
from experiments.worst_case.figures import draw_all
from experiments.worst_case.plan import Plan
from experiments.worst_case.results import Results
from experiments.worst_case.tables import summary, tables
from experiments.worst_case.targets import targets

LONG = ("history", "curve", "_correct", "_members")  # columns that stay in the journal
CURVE = ("member", "start", "step", "passes", "accuracy")


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    results = Results(plan, journal.rows)
    if not results.rows:
        return
    write_csv(out / "results.csv", [{k: v for k, v in row.items() if not k.endswith(LONG)} for row in results.rows])
    points = [
        {**{name: row[name] for name in ("data", "recipe", "seed")}, **dict(zip(CURVE, point, strict=True))}
        for row in results.nets
        for point in row.get("curve", [])
    ]
    if points:
        write_csv(out / "curves.csv", points)
    (out / "table.md").write_text(tables(results))
    (out / "summary.md").write_text(summary(results))
    write_targets(out, targets(results))
    draw_all(results, out)
