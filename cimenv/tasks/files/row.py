"""One line of an enumeration's file: a placement, what was counted, and the numbers that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.files.header import COLUMNS, NUMBERS, Header, damaged
from cimenv.tasks.objective import Objective

DIGITS = 6  # of a feature error


@dataclass(frozen=True)
class Row:
    """One placement.

    Attributes:
        placement: one option index per site.
        correct: correctly classified images of every chip, `[chips]`.
        numbers: the columns `NUMBERS`: objective J; mean, standard deviation and 5 % order statistic of the accuracy
            over chips; what the blocks add as shares of the backbone; the scalar cost.
        errors: feature errors, site after site, `[sites * 5]`, to `DIGITS` significant digits; see `ERROR_COLUMNS`.
    """

    placement: Placement
    correct: tuple[int, ...]
    numbers: Mapping[str, float]
    errors: tuple[float, ...]

    @staticmethod
    def of(objective: Objective, evaluation: Evaluation) -> Row:
        """Return the row of an evaluation."""
        (correct,) = evaluation.correct.tolist()  # one time
        numbers = {
            "objective": objective.value(evaluation),
            "mean": evaluation.value("mean"),
            "std": evaluation.value("std"),
            "p05": evaluation.value("percentile", 0.05),
            **objective.space.shares(evaluation.placement),
            "cost": objective.cost(evaluation.placement),
        }
        errors = tuple(float(f"{error:.{DIGITS}g}") for error in evaluation.site_errors.reshape(-1))
        return Row(evaluation.placement, tuple(correct), {name: float(numbers[name]) for name in NUMBERS}, errors)

    def text(self) -> str:
        """Return the row's line without its checksum; floats as `repr` writes them, so that they read back exactly."""
        numbers = [repr(self.numbers[name]) for name in NUMBERS]
        errors = " ".join(f"{error:.{DIGITS}g}" for error in self.errors)
        return ",".join([" ".join(map(str, self.placement)), *numbers, " ".join(map(str, self.correct)), errors])


def read_row(path: Path, number: int, line: str, header: Header) -> Row:
    """Return the row that a line holds, without its checksum.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        named = dict(zip(COLUMNS[:-1], line.split(","), strict=True))
        placement = tuple(int(option) for option in named["placement"].split())
        correct = tuple(int(count) for count in named["correct"].split())
        numbers = {name: float(named[name]) for name in NUMBERS}
        errors = tuple(float(error) for error in named["errors"].split())
    except ValueError:
        raise damaged(path, number, "it cannot be read as a row") from None
    if len(correct) != header.chips or not all(0 <= count <= header.images for count in correct):
        raise damaged(path, number, f"it needs {header.chips} counts of at most {header.images} images")
    if len(errors) != len(placement) * len(ERROR_COLUMNS) or not np.isfinite(errors).all():
        raise damaged(path, number, f"it needs {len(placement) * len(ERROR_COLUMNS)} feature errors")
    if not np.isfinite(list(numbers.values())).all():
        raise damaged(path, number, "it holds a number that is not finite")
    return Row(placement, correct, numbers, errors)
