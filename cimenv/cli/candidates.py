"""`cimenv candidates`: which sites need blocks at all."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cimenv.cli.arguments import AsJson, Overrides, TaskName, finite
from cimenv.cli.output import print_json, print_tables, table_of


def candidates(
    task: TaskName,
    threshold: Annotated[
        float, typer.Option(metavar="A", min=0, max=1, callback=finite, help="Share of the clean accuracy to be kept.")
    ] = 0.95,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Find the sites from which on the network bears the variation.

    Layers vary from the last one on, one more at a time, until the accuracy
    falls below 95 % of the clean one. The sites up to there are candidates for
    blocks: give them to a task as `candidates`, which narrows every search.

    \b
    Example:
      cimenv candidates lenet5-fashion-mini
      cimenv search lenet5-fashion-mini --set candidates=[conv1,conv2]
    """
    from cimenv.analysis.candidates import named_candidates, varied_from
    from cimenv.core.progress import bar
    from cimenv.tasks import load_task

    loaded = load_task(task, overrides)
    measured = varied_from(loaded, threshold, progress=bar)
    names = named_candidates(loaded, measured, threshold)
    if as_json:
        print_json({"candidates": list(names), "varied_from": [asdict(entry) for entry in measured]})
        return
    table = table_of("first layer that varies", "accuracy", "of clean", right=("accuracy", "of clean"))
    for entry in measured:
        table.add_row(entry.site, f"{entry.accuracy:.4f}", f"{entry.share:.1%}")
    print_tables(table)
    print(f"candidates: [{', '.join(names)}]" if names else "The network bears the variation of all its layers.")
