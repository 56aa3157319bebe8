"""What commands print: a table for readers or JSON for programs; pictures."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cimenv.core.inert import printable
from cimenv.core.writing import whole


def print_json(value: Any) -> None:
    """Print JSON; an infinite bound, which JSON lacks, is null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def print_row(row: Mapping[str, Any], as_json: bool) -> None:
    """Print named values, as JSON or a line each."""
    if as_json:
        print_json(row)
        return
    table = Cells(box=box.SIMPLE, show_header=False)
    for name, value in row.items():
        table.add_row(name.replace("_", " "), as_text(value))
    print_tables(table)


class Cells(Table):
    """A table whose cells show text of others as it is."""

    def add_row(self, *cells: Any, **settings: Any) -> None:
        """Add a row; see `rich.table.Table`."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **settings)


def print_tables(*parts: Any, highlight: bool = True) -> None:
    """Print tables and lines; square brackets and colons in their text are no markup."""
    Console(markup=False, emoji=False).print(*parts, highlight=highlight)


def print_note(shares: Mapping[str, float], as_json: bool) -> None:
    """Print one sentence where shares of the cost need an explanation; programs need none."""
    from cimenv.cost.hardware import explained

    note = explained(shares)
    if note and not as_json:
        print(textwrap.fill(note, 80))


def table_of(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table without vertical lines, which leaves room at 80 columns; `right` names number columns."""
    table = Cells(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def as_text(value: Any) -> str:
    """Return a value for readers: four decimals, names before values, nothing nested."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {as_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return " ".join(as_text(part) for part in value)
    return "too few chips" if value is None else str(value)


def save_picture(figure: Any, path: Path) -> None:
    """Write a matplotlib figure.

    Raises:
        ConfigError: the file cannot be written.
    """
    with whole(path) as part:
        figure.savefig(part, dpi=150, format=path.suffix[1:].lower())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
