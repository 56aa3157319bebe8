"""From the summary to what is printed and to results/demo: summary.json, table.md and targets.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from experiments.lab.markdown import table as markdown_table
from experiments.lab.targets import Target, target, write_targets

LABELS = {
    "none": "no blocks",
    "affine": "affine everywhere",
    "agent": "agent, final policy",
    "agent_best": "agent, best seen",
    "greedy": "greedy",
    "knapsack": "knapsack",
    "optimum": "enumerated optimum",
    "all": "all-largest",
}
COLUMNS = ("", "placement", "J", "mean", "5 % pct", "of std", "+weights", "+MACs", "energy nJ", "evals")


def write_results(summary: dict[str, Any], out: Path) -> None:
    """Write the summary, the table and the targets."""
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (out / "table.md").write_text(text_of(summary))
    write_targets(out, targets(summary))


def targets(summary: dict[str, Any]) -> list[Target]:
    """Return the promises of the demonstration with their measured values."""
    share = summary["agent"]["objective"] / summary["optimum"]["objective"]
    promises = (
        ("seconds after installation", "<= 300", summary["seconds"], summary["seconds"] <= 300),
        ("peak memory in GB", "<= 2", summary["peak_memory_gb"], summary["peak_memory_gb"] <= 2),
        ("J of the agent's final placement as a share of the enumerated optimum's", ">= 0.99", share, share >= 0.99),
    )
    return [target(*promise, "make demo") for promise in promises]


def title(summary: dict[str, Any]) -> str:
    """Return the title of the table: split, chips, images, fidelity and the clean accuracies."""
    return (
        f"{summary['task']}. mean, 5 % percentile: {summary['report']}. J: {summary['search']}. "
        f"Clean accuracy: standard recipe {summary['acc_ref']:.1%}, this backbone {summary['clean_accuracy']:.1%}."
    )


def cells(summary: dict[str, Any]) -> list[list[str]]:
    """Return the table's rows as text."""
    rows = []
    for name, label in LABELS.items():
        row = summary[name]
        low, high = (value / 1e3 for value in row["energy_pj"])
        rows.append(
            [
                label,
                "".join(map(str, row["placement"])),
                f"{row['objective']:.3f}",
                f"{row['mean']:.1%}",
                f"{row['p05']:.1%}",
                f"{row['recovered']:.1%}",
                f"{row['weights_added']:.2%}",
                f"{row['macs_added']:.1%}",
                f"{low:.1f}-{high:.1f}",
                str(row["evaluations"]),
            ]
        )
    return rows


def shown(summary: dict[str, Any]) -> Table:
    """Return the table that the demonstration prints."""
    table = Table(title=title(summary), title_justify="left", padding=(0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("", "placement") else "right", no_wrap=True)
    for row in cells(summary):
        table.add_row(*row)
    return table


def text_of(summary: dict[str, Any]) -> str:
    """Return the table as Markdown."""
    return f"{title(summary)}\n\n{markdown_table(COLUMNS, cells(summary), words=2)}"
