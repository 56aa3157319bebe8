"""Validation of an enumeration: rows are evaluated again, and every column is computed again from the counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.checked_rows import CHECK
from cimenv.core.device import checked_device
from cimenv.core.errors import ConfigError
from cimenv.core.seeding import numpy_generator
from cimenv.core.store import Store
from cimenv.tasks.engines import Engines
from cimenv.tasks.files.enumeration_file import FIRST_ROW, Enumeration, Unfit, read_enumeration
from cimenv.tasks.files.row import Row, per_chip
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.jobs import run_job
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute

TOLERANCE = 0.001  # of the images per chip: what another processor's rounding may change
ROUNDED = 2  # images per chip that a GPU may turn, however few there are
ERRORS = 0.01  # by which a feature error may differ, relative or absolute
ROWS = 16


@dataclass(frozen=True)
class Difference:
    """A value in which the file and this machine differ.

    Attributes:
        line: of the file, from 1; the header is line 1.
        placement: the row's, None for the header.
        column: which column or field of the header.
        there: what the file says.
        here: what was computed.
    """

    line: int
    placement: Placement | None
    column: str
    there: Any
    here: Any


@dataclass(frozen=True)
class Validation:
    """What was looked at and what differs.

    Attributes:
        enumeration: the file.
        seed: that the rows were drawn with.
        checked: indices of the rows that were evaluated again.
        weights_digest: of the weights that they were evaluated with.
        largest_gap: largest difference of a chip's correct images.
        differences: by line.
        device: where the rows were evaluated.
    """

    enumeration: Enumeration
    seed: int
    checked: tuple[int, ...]
    weights_digest: str
    largest_gap: float
    differences: tuple[Difference, ...]
    device: str = "cpu"

    @property
    def allowed_gap(self) -> float:
        """Return by how many images a chip may differ."""
        return _allowed(self.enumeration, self.device)

    @property
    def same_weights(self) -> bool:
        """Return whether the rows were evaluated with the weights of the file."""
        return self.weights_digest == self.enumeration.header.weights_digest

    @property
    def valid(self) -> bool:
        """Return whether nothing differs."""
        return not self.differences


def validate(
    path: str | Path,
    *,
    rows: int | None = ROWS,
    seed: int = 0,
    store: Store | None = None,
    compute: Compute = Compute(),
    trust: bool = False,
) -> Validation:
    """Evaluate rows of an enumeration afresh (no stored evaluation is read) and compare them with the file.

    Compared are the weights' digest and the clean accuracies; of the rows drawn, the correct images of every chip,
    within `TOLERANCE`, and the feature errors, within `ERRORS`; and, in every row of the file, the columns that follow
    from the counts, and its checksum.

    Args:
        path: what `enumerate_placements` wrote, finished or not.
        rows: how many rows to draw; the best and the empty placement are always among them; None for all.
        seed: of the draw.
        store: where trained weights are kept; what it lacks is trained.
        compute: where.
        trust: whether a backbone or data set of one's own that the file names may be imported.

    Raises:
        ConfigError: the file is missing, is no enumeration, is of another version, or a row is damaged; it names a
            module and is not trusted.
    """
    if rows is not None and rows < 1:
        raise ConfigError(f"rows: got {rows}; take at least 1.")
    checked_device(compute.device)
    unfit: Unfit = {}
    enumeration = read_enumeration(path, trust, unfit)
    checked = _drawn(enumeration, rows, seed)
    problem = Problem.build(enumeration.header.task, store, compute.progress)
    differences = [*_of_header(enumeration, problem), *_of_columns(enumeration), *_of_checksums(enumeration, unfit)]
    chosen = [enumeration.rows[k] for k in checked]
    again = _again(enumeration, problem, chosen, compute)
    per_chip_column = enumeration.header.columns[len(enumeration.header.numbers) + 1]
    for k, row, (chip, count, fresh) in zip(checked, chosen, again, strict=True):
        if abs(count - row.per_chip[chip]) > _allowed(enumeration, compute.device):
            column = f"{per_chip_column}, chip {chip}"
            differences.append(Difference(FIRST_ROW + k, row.placement, column, row.per_chip[chip], count))
        wrong = int(np.abs(np.subtract(fresh.errors, row.errors)).argmax())
        if not math.isclose(fresh.errors[wrong], row.errors[wrong], rel_tol=ERRORS, abs_tol=ERRORS):
            there, here = row.errors[wrong], fresh.errors[wrong]
            differences.append(Difference(FIRST_ROW + k, row.placement, f"errors, number {wrong}", there, here))
    largest = max(abs(count - row.per_chip[chip]) for row, (chip, count, _) in zip(chosen, again, strict=True))
    differences.sort(key=lambda difference: difference.line)
    return Validation(enumeration, seed, checked, problem.weights_digest, largest, tuple(differences), compute.device)


def _allowed(enumeration: Enumeration, device: str) -> float:
    rounded = 0 if device == "cpu" else ROUNDED
    header = enumeration.header
    return max(TOLERANCE * header.images, rounded) if header.metric.share else TOLERANCE


def _drawn(enumeration: Enumeration, rows: int | None, seed: int) -> tuple[int, ...]:
    """Return the indices of rows to evaluate: the empty placement, the best, and random others."""
    count = len(enumeration.rows)
    if rows is None:
        return tuple(range(count))
    always = {0, enumeration.rows.index(enumeration.best)}
    order = numpy_generator("validate", seed).permutation(count).tolist()
    others = [k for k in order if k not in always]
    return tuple(sorted([*always, *others[: max(0, rows - len(always))]]))


def _of_header(enumeration: Enumeration, problem: Problem) -> Iterator[Difference]:
    header = enumeration.header
    if header.weights_digest != problem.weights_digest:
        yield Difference(1, None, "weights_digest", header.weights_digest, problem.weights_digest)
    sites = SiteShape.of(problem.options.sites)
    for there, here in zip_longest(header.sites or sites, sites):
        if there != here:
            yield Difference(
                1, None, "sites", there and there.model_dump(mode="json"), here and here.model_dump(mode="json")
            )
    images = problem.images(header.split)
    if header.images != images:
        yield Difference(1, None, "images", header.images, images)
    fresh = {
        "reference_accuracy": problem.reference_accuracy(header.split),
        "clean_accuracy": problem.clean_accuracy(header.split),
    }
    for name, here in fresh.items():
        there = getattr(header, name)
        if abs(there - here) > TOLERANCE:
            yield Difference(1, None, name, there, here)


def _of_columns(enumeration: Enumeration) -> Iterator[Difference]:
    for k, row in enumerate(enumeration.rows):
        for name, here in enumeration.disagreements(row).items():
            yield Difference(FIRST_ROW + k, row.placement, name, row.numbers[name], here)


def _of_checksums(enumeration: Enumeration, unfit: Unfit) -> Iterator[Difference]:
    if len(unfit) == len(enumeration.rows) > 1:
        there, here = unfit[FIRST_ROW]
        yield Difference(1, None, "checksums of all rows, which hold the first two lines", there, here)
        return
    for line, (there, here) in unfit.items():
        yield Difference(line, enumeration.rows[line - FIRST_ROW].placement, CHECK, there, here)


def _again(
    enumeration: Enumeration, problem: Problem, rows: list[Row], compute: Compute
) -> list[tuple[int, float, Row]]:
    """Evaluate rows afresh; return, for each, the chip that differs most, what that is worth now, and the row now."""
    fresh = run_job(Engines(problem), enumeration.header.requests([row.placement for row in rows]), compute)
    again = []
    for row, evaluation in zip(rows, fresh, strict=True):
        now = per_chip(evaluation)
        chip = int(np.abs(np.subtract(now, row.per_chip)).argmax())
        again.append((chip, now[chip], Row.of(enumeration.objective, evaluation)))
    return again
