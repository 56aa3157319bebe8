"""Rows of results, their requests, and the CSV files that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.checked_rows import write_rows
from cimenv.evaluation.intervals import mean_interval

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
NAN = float("nan")


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Return the rows whose fields equal the given ones."""
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def mean_of(rows: Iterable[Row], field: str) -> float:
    """Return the mean of a field over the rows that have it; NaN without any."""
    values = [row[field] for row in rows if row.get(field) is not None]
    return float(np.mean(values)) if values else NAN


def chips_of(row: Row) -> Floats:
    """Return the accuracy of every chip of a row, `[chips]`, from its counts of correct images."""
    accuracies: Floats = np.asarray(row["correct"], dtype=float) / row["images"]
    return accuracies


def with_interval(values: Floats) -> str:
    """Return a mean over chips in per cent, with half of its 95 % interval."""
    low, high = mean_interval(values)
    return f"{values.mean():.1%} ± {(high - low) / 2:.1%}"


def write_csv(path: Path, rows: list[Row], leave_out: Iterable[str] = ()) -> None:
    """Write rows with the union of their columns; a list becomes words.

    Args:
        path: the file.
        rows: in their order.
        leave_out: columns that stay in the journal.

    Raises:
        ConfigError: the file cannot be written.
    """
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in leave_out]
    cells = ([" ".join(map(str, v)) if isinstance(v := row.get(k, ""), list) else v for k in names] for row in rows)
    write_rows(path, names, cells)
