"""The file of an enumeration: every feasible placement of a task in one CSV.

The first line is `# cimenv enumeration {...}`: one line of canonical JSON, the fields of `Header`. Then comes an
ordinary CSV of `COLUMNS`, a row a placement in depth-first order, with the correct images of every chip, from which
the numbers before them follow (a new statistic needs no new run), the feature errors of every site, and a checksum of
the row and of the lines above all rows. A finished file may be compressed by xz: `NAME.csv.xz` is read as it is.

A file is data: reading it imports nothing, calls nothing and opens no other file, whatever it names. Sites and shapes
stand in its header. A file of the version before has neither them nor checksums, and is read with a notice where the
backbone and the data are built in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cimenv.core.checked_rows import Checks, unchecked
from cimenv.core.errors import ConfigError
from cimenv.core.files import RECORD, read_bytes, unpacked
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.files.header import (
    ENUMERATION_VERSION,
    UNCHECKED_VERSION,
    Header,
    damaged,
    read_header,
)
from cimenv.tasks.files.row import Row, read_row
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

FIRST_ROW = 3  # its line in the file
LARGEST = 1_000_000  # placements: a file of some 500 MB

Unfit = dict[int, tuple[str, str]]  # by line: the checksum that stands there, and that of the row


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
        return self.header.objective(self.space, self.rows[0].per_chip)

    @cached_property
    def best(self) -> Row:
        """Return the optimum: the largest objective, and among equals fewer added weights."""
        return max(self.rows, key=lambda row: self.objective.rank(row.placement, row.numbers["objective"]))

    def evaluation(self, row: Row) -> Evaluation:
        """Return a row as an evaluation, for any statistic over chips."""
        return self.header.evaluation(row.placement, row.per_chip, row.errors, self.space.shares(row.placement))

    def disagreements(self, row: Row) -> dict[str, float]:
        """Return the columns of a row that do not follow from its counts and the first row's, with what does."""
        derived = Row.of(self.objective, self.evaluation(row)).numbers
        return {name: value for name, value in derived.items() if not _close(value, row.numbers.get(name, value))}


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
    enumeration = parse(path, lines, read_header(path, lines, trust), unfit=unfit)
    if tail or not enumeration.rows:
        raise ConfigError(f"{path} is unfinished; finish it with `cimenv enumerate` and the same task.")
    return enumeration


def split_lines(path: Path, data: bytes) -> tuple[list[str], bytes]:
    """Return the whole lines of a file and what a kill left of the last one.

    Raises:
        ConfigError: there are more than any enumeration has.
    """
    if (count := data.count(b"\n")) > FIRST_ROW - 1 + LARGEST:
        raise ConfigError(f"{path} has {count:,} lines and an enumeration at most {LARGEST:,} rows; give one.")
    *whole, tail = data.split(b"\n")
    return [line.decode("utf-8", "replace") for line in whole], tail


def parse(
    path: Path,
    lines: Sequence[str],
    header: Header,
    space: PlacementSpace | None = None,
    unfit: Unfit | None = None,
) -> Enumeration:
    """Return the rows in the whole lines of a file; they must be the first ones of its task, in order.

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
        row = read_row(path, number, text, header)
        if row.placement != next(order, None):
            raise damaged(path, number, f"placement {' '.join(map(str, row.placement))} does not belong there")
        rows.append(row)
    return Enumeration(path, header, space, tuple(rows), finished=next(order, None) is None)


def with_checksums(enumeration: Enumeration) -> str:
    """Return the file of an enumeration as this version writes it, with sites and checksums."""
    header = enumeration.header.model_copy(
        update={"version": ENUMERATION_VERSION, "sites": SiteShape.of(enumeration.space.sites)}
    )
    head = header.text()
    checks = Checks(head)
    return head + "".join(f"{checks.signed(row.text())}\n" for row in enumeration.rows)


def _check_gains(path: Path, header: Header, space: PlacementSpace) -> None:
    if header.gains is not None:
        sizes = [len(here) for here in space.options.per_site]
        if any([len(part) for part in parts] != sizes for parts in (header.gains.mean, header.gains.error)):
            raise damaged(path, 1, "gains has not one number for every block")


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)  # libraries may round the last digit differently
