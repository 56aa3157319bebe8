"""The course of a search as CSV: the same columns for every method."""

from __future__ import annotations

import csv
from pathlib import Path

from cimenv.core.errors import ConfigError
from cimenv.cost.hardware import COST_TERMS
from cimenv.search.base import SearchResult
from cimenv.tasks.space import PlacementSpace

COLUMNS = ("method", "evaluation", "placement", "objective", "accuracy", "best_objective", *COST_TERMS)


def write_steps(path: Path, found: SearchResult, space: PlacementSpace) -> None:
    """Write one row per distinct evaluation, in order; costs are shares of the backbone's.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            for number, (step, best) in enumerate(zip(found.steps, found.best_so_far, strict=True), 1):
                placement, shares = " ".join(map(str, step.placement)), space.shares(step.placement)
                row = [found.method, number, placement, step.objective, step.accuracy, best]
                rows.writerow([*row, *(shares[term] for term in COST_TERMS)])
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); name a file in a folder that exists.") from None
