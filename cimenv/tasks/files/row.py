"""One line of an enumeration's file: a placement, what was counted, and the numbers that follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.files.header import Header, damaged
from cimenv.tasks.objective import Objective

DIGITS = 6  # of a feature error


@dataclass(frozen=True)
class Row:
    """One placement.

    Attributes:
        placement: one option index per site.
        per_chip: what every chip is worth, `[chips]`: images that count where the metric is a share, else its value.
        numbers: the columns `Header.numbers`: objective J; mean, standard deviation and 5 % order statistic over
            chips; what the blocks add as shares of the backbone; the scalar cost.
        errors: feature errors, site after site, `[sites * 5]`, to `DIGITS` significant digits; see `ERROR_COLUMNS`.
    """

    placement: Placement
    per_chip: tuple[float, ...]
    numbers: Mapping[str, float]
    errors: tuple[float, ...]

    @staticmethod
    def of(objective: Objective, evaluation: Evaluation) -> Row:
        """Return the row of an evaluation."""
        numbers = {
            "objective": objective.value(evaluation),
            "mean": evaluation.value("mean"),
            "std": evaluation.value("std"),
            "p05": evaluation.value("percentile", 0.05),
            **objective.space.shares(evaluation.placement),
            "cost": objective.cost(evaluation.placement),
        }
        errors = tuple(float(f"{error:.{DIGITS}g}") for error in evaluation.site_errors.reshape(-1))
        named = {name: float(value) for name, value in numbers.items()}
        return Row(evaluation.placement, per_chip(evaluation), named, errors)

    def text(self) -> str:
        """Return the row's line without its checksum; floats as `repr` writes them, so that they read back exactly."""
        numbers = [repr(number) for number in self.numbers.values()]
        errors = " ".join(f"{error:.{DIGITS}g}" for error in self.errors)
        return ",".join([" ".join(map(str, self.placement)), *numbers, " ".join(map(repr, self.per_chip)), errors])


def per_chip(evaluation: Evaluation) -> tuple[float, ...]:
    """Return what every chip is worth at the only time, as a row has it."""
    (only,) = (evaluation.values if evaluation.correct is None else evaluation.correct).tolist()
    return tuple(only)


def read_row(path: Path, number: int, line: str, header: Header) -> Row:
    """Return the row that a line holds, without its checksum.

    Raises:
        ConfigError: it is damaged.
    """
    share = header.metric.share
    try:
        named = dict(zip(header.columns[: len(header.numbers) + 3], line.split(","), strict=True))
        placement = tuple(int(option) for option in named["placement"].split())
        chips = _numbers(named["correct"], int) if share else _numbers(named["values"], float)
        numbers = {name: float(named[name]) for name in header.numbers}
        errors = _numbers(named["errors"], float)
    except ValueError:
        raise damaged(path, number, "it cannot be read as a row") from None
    if len(chips) != header.chips or not all(not share or 0 <= count <= header.images for count in chips):
        raise damaged(path, number, f"it needs {header.chips} counts of at most {header.images} images")
    if len(errors) != len(placement) * len(ERROR_COLUMNS) or not np.isfinite(errors).all():
        raise damaged(path, number, f"it needs {len(placement) * len(ERROR_COLUMNS)} feature errors")
    if not np.isfinite([*numbers.values(), *chips]).all():
        raise damaged(path, number, "it holds a number that is not finite")
    return Row(placement, chips, numbers, errors)


def _numbers(text: str, kind: Callable[[str], float]) -> tuple[float, ...]:
    return tuple(kind(part) for part in text.split())
