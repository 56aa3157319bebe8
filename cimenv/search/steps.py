"""The course of a search as CSV: the same columns for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cimenv.core.checked_rows import write_rows
from cimenv.search.base import SearchResult
from cimenv.tasks.space import PlacementSpace

COLUMNS = ("method", "evaluation", "placement", "objective", "accuracy", "best_objective")  # and the terms of the cost


def write_steps(path: Path, result: SearchResult, space: PlacementSpace) -> None:
    """Write one row per distinct evaluation, in order; costs are shares of the backbone's.

    Raises:
        ConfigError: the file cannot be written.
    """
    rows: list[list[Any]] = []
    for number, (step, best) in enumerate(zip(result.steps, result.best_so_far, strict=True), 1):
        placement, shares = " ".join(map(str, step.placement)), space.shares(step.placement)
        row = [result.method, number, placement, step.objective, step.accuracy, best]
        rows.append([*row, *(shares[term] for term in space.term_names)])
    write_rows(path, (*COLUMNS, *space.term_names), rows)
