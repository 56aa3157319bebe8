"""The first two lines of an enumeration's file: what its rows depend on, and the names of its columns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement, options_by_type
from cimenv.core.checked_rows import CHECK
from cimenv.core.config import Frozen, canonical
from cimenv.core.errors import ConfigError, UntrustedError
from cimenv.core.files import CONFIGURATION
from cimenv.core.modules import untrusted
from cimenv.evaluation.metrics import Metric, metric_named
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.objective import Objective
from cimenv.tasks.requests import Fidelity, Request
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

ENUMERATION_VERSION = 4  # bump when a column's meaning or the order of rows changes
METRIC_VERSION = 3  # a task's `statistic` stands there as `metric`
UNCHECKED_VERSION = 2  # and there are neither checksums nor sites
READ_VERSIONS = (UNCHECKED_VERSION, METRIC_VERSION, ENUMERATION_VERSION)
MAGIC = "# cimenv enumeration "
TERMS = ("weights", "macs", "energy", "area", "latency")  # of cost, in files that do not say theirs
MOST_BLOCKS = 100_000  # sites x options

EnumeratedSplit = Literal["val", "test"]


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
        terms: names of the cost terms, a column each.
    """

    version: int
    task: Task
    sites: tuple[SiteShape, ...] | None = Field(None, min_length=1)
    split: EnumeratedSplit
    fidelity: Fidelity
    chips: int = Field(ge=1)
    images: int = Field(ge=1)
    reference_accuracy: float
    clean_accuracy: float
    weights_digest: str
    gains: Gains | None = None
    terms: tuple[str, ...] = TERMS

    @model_validator(mode="after")
    def _check(self) -> Header:
        if (self.sites is None) != (self.version == UNCHECKED_VERSION):
            raise ValueError(f"sites: version {self.version} has {'no' if self.sites is None else 'some'}")
        if len(self.sites or ()) * max(map(len, self.task.options.values()), default=0) > MOST_BLOCKS:
            raise ValueError(f"sites: more than {MOST_BLOCKS:,} blocks")
        for field in ("reference_accuracy", "clean_accuracy"):
            if self.metric.share and not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}: {getattr(self, field)} is no share")
        return self

    @cached_property
    def metric(self) -> Metric:
        """Return what one chip is worth."""
        return metric_named(self.task.metric)

    def text(self) -> str:
        """Return the first two lines of the file."""
        unknown = {"sites"} if self.sites is None else set()
        return f"{MAGIC}{canonical(self.model_dump(mode='json', exclude=unknown))}\n{','.join(self.columns)}\n"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        per_chip = "correct" if self.metric.share else "values"
        checked = (CHECK,) if self.sites is not None else ()
        return ("placement", *self.numbers, per_chip, "errors", *checked)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the names of the columns that follow from what the chips are worth, and from the blocks."""
        return ("objective", "mean", "std", "p05", *self.terms, "cost")

    def space(self) -> PlacementSpace:
        """Return the placements of the task; only a file without sites needs its network.

        Raises:
            ConfigError: then, a network or data that are not built in.
        """
        if self.sites is None:
            return PlacementSpace(self.task)
        return PlacementSpace(self.task, options_by_type([shape.site() for shape in self.sites], self.task.options))

    def requests(self, placements: Sequence[Placement]) -> list[Request]:
        """Return the requests for placements in an enumeration of this header."""
        chips, times = range(self.chips), self.task.times_s
        return [Request(placement, self.split, self.fidelity, chips, times) for placement in placements]

    def evaluation(
        self,
        placement: Placement,
        per_chip: Sequence[float],
        errors: Sequence[float] = (),
        cost: Mapping[str, float] | None = None,
        first_chip: int = 0,
    ) -> Evaluation:
        """Return counts or values `[chips]`, site errors `[sites * 5]` and cost shares as an evaluation."""
        numbers = np.array([per_chip])
        share = self.metric.share
        return Evaluation(
            key=f"{placement}",
            placement=placement,
            split=self.split,
            fidelity=self.fidelity,
            values=numbers / self.images if share else numbers,
            images=self.images,
            site_errors=np.array(errors, dtype=np.float64).reshape(-1, len(ERROR_COLUMNS)),
            correct=numbers if share else None,
            first_chip=first_chip,
            cost=cost or {},
        )

    def objective(self, space: PlacementSpace, none: Sequence[float]) -> Objective:
        """Return J, measured from the counts or values `[chips]` of the empty placement."""
        accuracy = self.evaluation(space.empty(), none).value(self.task.statistic, self.task.percentile)
        return Objective(self.task, space, accuracy, self.reference_accuracy)


def read_header(path: Path, lines: Sequence[str], trust: bool = False) -> Header:
    """Return the header that the first two lines of a file hold; see `read_enumeration`.

    Raises:
        ConfigError: the file is no enumeration, is of another version, or a line is damaged.
    """
    if not lines or not lines[0].startswith(MAGIC):
        raise ConfigError(f"{path} is not an enumeration; give a file that `cimenv enumerate` wrote.")
    if len(lines[0]) > CONFIGURATION:
        raise damaged(path, 1, "it is longer than any header")
    with nullcontext() if trust else untrusted(path):
        header = _header(path, lines[0].removeprefix(MAGIC))
    if lines[1:2] != [",".join(header.columns)]:
        raise damaged(path, 2, f"the columns are not {', '.join(header.columns)}")
    if trust:
        return header
    return header.model_copy(update={"task": header.task.as_read_from(path)})


def damaged(path: Path, number: int, why: str) -> ConfigError:
    """Return the error of a damaged line."""
    return ConfigError(f"Line {number} of {path} is damaged: {why}; delete it and what follows, then enumerate again.")


def _header(path: Path, text: str) -> Header:
    try:
        fields = json.loads(text, parse_float=_finite, parse_constant=_finite)
        version = fields["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise damaged(path, 1, "its JSON cannot be read") from None
    if version not in READ_VERSIONS:
        raise ConfigError(
            f"{path} is an enumeration of version {version}, this cimenv reads version {UNCHECKED_VERSION} to "
            f"{ENUMERATION_VERSION}; enumerate into a new file."
        )
    if _names_files(fields):
        raise damaged(path, 1, "a device's table is the path of another file, and reading opens none")
    if version != ENUMERATION_VERSION and isinstance(task := fields.get("task"), dict) and "statistic" not in task:
        task["statistic"] = task.pop("metric", None)
    try:
        return Header(**fields)
    except UntrustedError:
        raise
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
