"""The file of an enumeration: every feasible placement of a task in one CSV.

The first line is `# cimenv enumeration {...}`: one line of canonical JSON, the fields of `Header`. Then comes an
ordinary CSV of `COLUMNS`, a row a placement in depth-first order, with the correct images of every chip, from which
the numbers before them follow (a new metric needs no new run), the feature errors of every site, and a checksum of the
row and of the lines above all rows. A finished file may be compressed by xz: `NAME.csv.xz` is read as it is.

A file is data: reading it imports nothing, calls nothing and opens no other file, whatever it names. Sites and shapes
stand in its header. A file of the version before has neither them nor checksums, and is read with a notice where the
backbone and the data are built in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement, options_by_type
from cimenv.core.checked_rows import CHECK, Checks, unchecked
from cimenv.core.config import Frozen, canonical
from cimenv.core.errors import ConfigError
from cimenv.core.files import CONFIGURATION, RECORD, read_bytes, unpacked
from cimenv.cost.hardware import COST_TERMS
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

ENUMERATION_VERSION = 3  # bump when a column's meaning or the order of rows changes
UNCHECKED_VERSION = 2  # without checksums and sites, but the same otherwise
MAGIC = "# cimenv enumeration "
NUMBERS = ("objective", "mean", "std", "p05", *COST_TERMS, "cost")  # the columns that follow from the counts
COLUMNS = ("placement", *NUMBERS, "correct", "errors", CHECK)
DIGITS = 6  # of a feature error
FIRST_ROW = 3  # its line in the file
LARGEST = 1_000_000  # placements: a file of some 500 MB
MOST_BLOCKS = 100_000  # sites x options

EnumeratedSplit = Literal["val", "test"]
Unfit = dict[int, tuple[str, str]]  # by line: the checksum that stands there, and that of the row


class Header(Frozen):
    """The first line of an enumeration: everything its rows depend on.

    Attributes:
        version: of the file format, `ENUMERATION_VERSION`.
        task: every field of the task.
        sites: the mapped layers of its backbone, in call order; None in a file of `UNCHECKED_VERSION`.
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
    sites: tuple[SiteShape, ...] | None = Field(None, min_length=1)
    split: EnumeratedSplit
    fidelity: str
    chips: int = Field(ge=1)
    images: int = Field(ge=1)
    reference_accuracy: float = Field(ge=0, le=1)
    clean_accuracy: float = Field(ge=0, le=1)
    weights_digest: str
    gains: Gains | None = None

    @model_validator(mode="after")
    def _check(self) -> Header:
        if (self.sites is None) != (self.version == UNCHECKED_VERSION):
            raise ValueError(f"sites: version {self.version} has {'no' if self.sites is None else 'some'}")
        if len(self.sites or ()) * max(map(len, self.task.options.values()), default=0) > MOST_BLOCKS:
            raise ValueError(f"sites: more than {MOST_BLOCKS:,} blocks")
        return self

    def text(self) -> str:
        """Return the first two lines of the file."""
        unknown = {"sites"} if self.sites is None else set()
        return f"{MAGIC}{canonical(self.model_dump(mode='json', exclude=unknown))}\n{','.join(self.columns)}\n"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return COLUMNS if self.sites is not None else COLUMNS[:-1]

    def space(self) -> PlacementSpace:
        """Return the placements of the task; only a file without sites needs its network.

        Raises:
            ConfigError: then, a network or data that are not built in.
        """
        if self.sites is None:
            return PlacementSpace(self.task)
        return PlacementSpace(self.task, options_by_type([shape.site() for shape in self.sites], self.task.options))

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
        """Return the row's line without its checksum; floats as `repr` writes them, so that they read back exactly."""
        numbers = [repr(self.numbers[name]) for name in NUMBERS]
        errors = " ".join(f"{error:.{DIGITS}g}" for error in self.errors)
        return ",".join([" ".join(map(str, self.placement)), *numbers, " ".join(map(str, self.correct)), errors])


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


def read_enumeration(path: str | Path, trust: bool = False, unfit: Unfit | None = None) -> Enumeration:
    """Return the rows of an enumeration; one that a kill stopped between two rows has fewer than its task.

    Args:
        path: the file.
        trust: whether a backbone or data set of one's own that it names, as `package.module:name`, may be imported.
        unfit: takes note of rows whose checksums do not fit; by default such a row is damaged.

    Raises:
        ConfigError: the file is missing, no regular file, too large, no enumeration, of another version, or a row is
            damaged.
    """
    path = Path(path)
    try:
        data = read_bytes(path, RECORD)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}; give a file that `cimenv enumerate` wrote.") from None
    lines, tail = split_lines(path, unpacked(path, data) if path.suffix == ".xz" else data)
    found = parse(path, lines, read_header(path, lines, trust), unfit=unfit)
    if tail or not found.rows:
        raise ConfigError(f"{path} is unfinished; finish it with `cimenv enumerate` and the same task.")
    return found


def split_lines(path: Path, data: bytes) -> tuple[list[str], bytes]:
    """Return the whole lines of a file and what a kill left of the last one.

    Raises:
        ConfigError: there are more than any enumeration has.
    """
    if (count := data.count(b"\n")) > FIRST_ROW - 1 + LARGEST:
        raise ConfigError(f"{path} has {count:,} lines and an enumeration at most {LARGEST:,} rows; give one.")
    *whole, tail = data.split(b"\n")
    return [line.decode("utf-8", "replace") for line in whole], tail


def read_header(path: Path, lines: Sequence[str], trust: bool = False) -> Header:
    """Return what the first two lines of a file say; see `read_enumeration`.

    Raises:
        ConfigError: the file is no enumeration, is of another version, or a line is damaged.
    """
    if not lines or not lines[0].startswith(MAGIC):
        raise ConfigError(f"{path} is not an enumeration; give a file that `cimenv enumerate` wrote.")
    if len(lines[0]) > CONFIGURATION:
        raise damaged(path, 1, "it is longer than any header")
    header = _header(path, lines[0].removeprefix(MAGIC))
    if lines[1:2] != [",".join(header.columns)]:
        raise damaged(path, 2, f"the columns are not {', '.join(header.columns)}")
    if trust:
        return header
    return header.model_copy(update={"task": header.task.as_read_from(path)})


def parse(
    path: Path,
    lines: Sequence[str],
    header: Header,
    space: PlacementSpace | None = None,
    unfit: Unfit | None = None,
) -> Enumeration:
    """Return what the whole lines of a file say; its rows must be the first ones of its task, in order.

    Args:
        path: of the file.
        lines: all of them.
        header: what the first two say.
        space: of the header's task, where that is known; default what the header says.
        unfit: takes note of rows whose checksums do not fit.

    Raises:
        ConfigError: a line is damaged, or a file without sites names a network or data of one's own.
    """
    space = space if space is not None else header.space()
    _check_gains(path, header, space)
    if header.version == UNCHECKED_VERSION:
        unchecked(path)
    checks = Checks("".join(f"{line}\n" for line in lines[: FIRST_ROW - 1]))
    order, rows = space.all_placements(), []
    for number, line in enumerate(lines[FIRST_ROW - 1 :], FIRST_ROW):
        text = line
        if header.version != UNCHECKED_VERSION:
            text, _, check = line.rpartition(",")
            if check != (here := checks.of(text)):
                if unfit is None:
                    raise damaged(path, number, "its checksum does not fit it and the first two lines")
                unfit[number] = (check, here)
        row = _row(path, number, text, header)
        if row.placement != next(order, None):
            raise damaged(path, number, f"placement {' '.join(map(str, row.placement))} does not belong there")
        rows.append(row)
    return Enumeration(path, header, space, tuple(rows), finished=next(order, None) is None)


def with_checksums(found: Enumeration) -> str:
    """Return the file of an enumeration as this version writes it, with sites and checksums."""
    header = found.header.model_copy(update={"version": ENUMERATION_VERSION, "sites": SiteShape.of(found.space.sites)})
    head = header.text()
    checks = Checks(head)
    return head + "".join(f"{checks.signed(row.text())}\n" for row in found.rows)


def damaged(path: Path, number: int, why: str) -> ConfigError:
    """Return the error of a damaged line."""
    return ConfigError(f"Line {number} of {path} is damaged: {why}; delete it and what follows, then enumerate again.")


def _header(path: Path, text: str) -> Header:
    try:
        fields = json.loads(text, parse_float=_finite, parse_constant=_finite)
        version = fields["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise damaged(path, 1, "its JSON cannot be read") from None
    if version not in (UNCHECKED_VERSION, ENUMERATION_VERSION):
        raise ConfigError(
            f"{path} is an enumeration of version {version}, this cimenv reads version {UNCHECKED_VERSION} and "
            f"{ENUMERATION_VERSION}; enumerate into a new file."
        )
    if _names_files(fields):
        raise damaged(path, 1, "a device's table is the path of another file, and reading opens none")
    try:
        return Header(**fields)
    except (ValueError, TypeError, OverflowError) as error:
        raise damaged(path, 1, str(error).rstrip(".")) from None


def _finite(text: str) -> float:
    """Return the number; an infinity or what is none is no JSON."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value


def _names_files(value: Any) -> bool:
    """Return whether a device anywhere within is to be read from a file, as `DeviceTable` does."""
    if isinstance(value, dict):
        named = value.get("kind") == "table" and bool(value.get("path"))
        return named or any(map(_names_files, value.values()))
    return isinstance(value, list) and any(map(_names_files, value))


def _check_gains(path: Path, header: Header, space: PlacementSpace) -> None:
    if header.gains is not None:
        sizes = [len(here) for here in space.options.per_site]
        if any([len(part) for part in parts] != sizes for parts in (header.gains.mean, header.gains.error)):
            raise damaged(path, 1, "gains has not one number for every block")


def _row(path: Path, number: int, line: str, header: Header) -> Row:
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


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)  # libraries may round the last digit differently
