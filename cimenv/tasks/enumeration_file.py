"""The file of an enumeration: every feasible placement of a task in one CSV.

The first line is `# cimenv enumeration {...}`: one line of canonical JSON, the fields of `Header`. Then comes an
ordinary CSV of `COLUMNS`, a row a placement in depth-first order, with the correct images of every chip, from which
the numbers before them follow (a new metric needs no new run), and the feature errors of every site. A finished file
may be compressed by xz: `NAME.csv.xz` is read as it is.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.config import Frozen
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.cost.hardware import COST_TERMS
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

ENUMERATION_VERSION = 2  # bump when a column's meaning or the order of rows changes
MAGIC = "# cimenv enumeration "
NUMBERS = ("objective", "mean", "std", "p05", *COST_TERMS, "cost")  # the columns that follow from the counts
COLUMNS = ("placement", *NUMBERS, "correct", "errors")
DIGITS = 6  # of a feature error
FIRST_ROW = 3  # its line in the file

EnumeratedSplit = Literal["val", "test"]


class Header(Frozen):
    """The first line of an enumeration: everything its rows depend on.

    Attributes:
        version: of the file format, `ENUMERATION_VERSION`.
        task: every field of the task.
        split: `val` or `test`.
        fidelity: `bank`.
        chips: chips per placement, numbered from 0.
        images: images per chip.
        reference_accuracy: acc_ref, the clean accuracy of the `standard` recipe on these images.
        clean_accuracy: of the backbone on these images.
        weights_digest: hash of the backbone's and the bank's weights.
        gains: what every block added to accuracy while the bank was fitted; None where that kept no log.
    """

    version: int
    task: Task
    split: EnumeratedSplit
    fidelity: str
    chips: int
    images: int
    reference_accuracy: float
    clean_accuracy: float
    weights_digest: str
    gains: Gains | None = None

    def text(self) -> str:
        """Return the first two lines of the file."""
        return f"{MAGIC}{self.canonical()}\n{','.join(COLUMNS)}\n"

    def evaluation(self, placement: Placement, correct: Sequence[int], errors: Sequence[float] = ()) -> Evaluation:
        """Return counts `[chips]` and site errors `[sites * 5]` as an evaluation."""
        counts = np.array([correct], dtype=np.int64)
        by_site = np.array(errors, dtype=np.float64).reshape(-1, len(ERROR_COLUMNS))
        return Evaluation(f"{placement}", placement, self.split, self.fidelity, counts, self.images, by_site)

    def objective(self, space: PlacementSpace, none: Sequence[int]) -> Objective:
        """Return J, measured from the counts `[chips]` of the empty placement."""
        accuracy = self.evaluation(space.empty(), none).value(self.task.metric, self.task.percentile)
        return Objective(self.task, space, accuracy, self.reference_accuracy)


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
        """Return the row as a line of the file; floats as `repr` writes them, so that they read back exactly."""
        numbers = [repr(self.numbers[name]) for name in NUMBERS]
        errors = " ".join(f"{error:.{DIGITS}g}" for error in self.errors)
        return ",".join([" ".join(map(str, self.placement)), *numbers, " ".join(map(str, self.correct)), errors]) + "\n"


@dataclass(frozen=True)
class Enumeration:
    """What a file holds, finished or not.

    Attributes:
        path: the file.
        header: what its rows depend on.
        space: the placements of the header's task and their costs.
        rows: in the order of `space.all_placements`.
        finished: whether these are all of them.
        new: how many of them this run evaluated.
    """

    path: Path
    header: Header
    space: PlacementSpace = field(repr=False, compare=False)
    rows: tuple[Row, ...] = field(repr=False)
    finished: bool
    new: int = 0

    @cached_property
    def objective(self) -> Objective:
        """Return J, measured from the first row, the empty placement."""
        return self.header.objective(self.space, self.rows[0].correct)

    @cached_property
    def best(self) -> Row:
        """Return the optimum: the largest objective, and among equals fewer added weights."""
        return max(self.rows, key=lambda row: self.objective.rank(row.placement, row.numbers["objective"]))

    def evaluation(self, row: Row) -> Evaluation:
        """Return a row as an evaluation, for any metric over chips."""
        return self.header.evaluation(row.placement, row.correct, row.errors)

    def disagreements(self, row: Row) -> dict[str, float]:
        """Return the columns of a row that do not follow from its counts and the first row's, with what does."""
        derived = Row.of(self.objective, self.evaluation(row)).numbers
        return {name: value for name, value in derived.items() if not _close(value, row.numbers[name])}


def read_enumeration(path: str | Path) -> Enumeration:
    """Return the rows of an enumeration; one that a kill stopped between two rows has fewer than its task.

    Raises:
        ConfigError: the file is missing, is no enumeration, is of another version, or a row is damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        lines, tail = split_lines(lzma.decompress(data) if path.suffix == ".xz" else data)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}; give a file that `cimenv enumerate` wrote.") from None
    except lzma.LZMAError as error:
        raise ConfigError(f"{path} is damaged ({error}); enumerate again, and compress that by xz.") from None
    found = parse(path, lines)
    if tail or not found.rows:
        raise ConfigError(f"{path} is unfinished; finish it with `cimenv enumerate` and the same task.")
    return found


def split_lines(data: bytes) -> tuple[list[str], bytes]:
    """Return the whole lines of a file and what a kill left of the last one."""
    *whole, tail = data.split(b"\n")
    return [line.decode("utf-8", "replace") for line in whole], tail


def parse(path: Path, lines: Sequence[str]) -> Enumeration:
    """Return what the whole lines of a file say; its rows must be the first ones of its task, in order.

    Raises:
        ConfigError: the file is no enumeration, is of another version, or a line is damaged.
    """
    if not lines or not lines[0].startswith(MAGIC):
        raise ConfigError(f"{path} is not an enumeration; give a file that `cimenv enumerate` wrote.")
    header = _header(path, lines[0].removeprefix(MAGIC))
    if lines[1:2] != [",".join(COLUMNS)]:
        raise damaged(path, 2, f"the columns are not {', '.join(COLUMNS)}")
    space = PlacementSpace(header.task)
    order = space.all_placements()
    rows = []
    for number, line in enumerate(lines[2:], FIRST_ROW):
        row = _row(path, number, line, header)
        if row.placement != next(order, None):
            raise damaged(path, number, f"placement {' '.join(map(str, row.placement))} does not belong there")
        rows.append(row)
    return Enumeration(path, header, space, tuple(rows), finished=next(order, None) is None)


def damaged(path: Path, number: int, why: str) -> ConfigError:
    """Return the error of a damaged line."""
    return ConfigError(f"Line {number} of {path} is damaged: {why}; delete it and what follows, then enumerate again.")


def _header(path: Path, text: str) -> Header:
    try:
        fields = json.loads(text)
        version = fields["version"]
    except (ValueError, TypeError, KeyError):
        raise damaged(path, 1, "its JSON cannot be read") from None
    if version != ENUMERATION_VERSION:
        raise ConfigError(
            f"{path} is an enumeration of version {version}, this cimenv reads and writes version "
            f"{ENUMERATION_VERSION}; enumerate into a new file."
        )
    try:
        return Header(**fields)
    except (CimenvError, TypeError) as error:
        raise damaged(path, 1, str(error).rstrip(".")) from None


def _row(path: Path, number: int, line: str, header: Header) -> Row:
    try:
        named = dict(zip(COLUMNS, line.split(","), strict=True))
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
    return Row(placement, correct, numbers, errors)


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)  # libraries may round the last digit differently
