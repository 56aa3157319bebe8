"""A feature of the observation as a row: name, formula, bounds and description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.core.config import where
from cimenv.core.errors import CimenvError, ConfigError, brief, known_name
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace

BOUND = 5.0
OF = ("site", "option", "placement")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What an observation is made of.

    Attributes:
        evaluation: of the blocks placed so far (or of none, with `feedback="reset"`).
        objective: accuracies without blocks and of the reference, costs.
        placement: the blocks placed so far.
        mask: allowed options, `[sites, 1 + options]`.
        steps_left: share of the step limit that is left.
        current: number of the site that Walk decides on, else None.
    """

    evaluation: Evaluation
    objective: Objective
    placement: Placement
    mask: npt.NDArray[np.bool_]
    steps_left: float
    current: int | None = None

    @property
    def space(self) -> PlacementSpace:
        """Return sites, options and their costs."""
        return self.objective.space


@dataclass(frozen=True)
class Feature:
    """One kind of number in an observation.

    Attributes:
        name: by which an environment names it.
        formula: returns its numbers from a View: `[sites]` of a site, `[sites, options]` of an option, one number of
            the placement as a whole; with `labels` a last dimension that long.
        doc: one sentence that says what the numbers are and how they are scaled.
        of: what it is a feature of: every `site`, every `option` at every site, or the `placement` as a whole.
        labels: names of its numbers, where it has several.
        bounds: smallest and largest value; what lies beyond is clipped, and NaN counts as 0.
        column: what its numbers are called in `layout.names`; default its name.
    """

    name: str
    formula: Callable[[View], Any]
    doc: str
    of: Literal["site", "option", "placement"] = "site"
    labels: tuple[str, ...] = ()
    bounds: tuple[float, float] = (-BOUND, BOUND)
    column: str = ""

    def __post_init__(self) -> None:
        known_name(f"subject of feature {self.name}", self.of, OF)
        if not callable(self.formula):
            raise ConfigError(f"feature {self.name}: the formula is {brief(self.formula)}; give a function of a View.")
        low, high = self.bounds
        if not -np.inf < low < high < np.inf:
            raise ConfigError(f"feature {self.name}: the bounds are {brief(self.bounds)}; give two finite numbers.")
        if self.labels and self.of == "option":
            raise ConfigError(f"feature {self.name}: an option has one number each; make a feature of every label.")

    def columns(self, options: int) -> tuple[str, ...]:
        """Return the names of its numbers, of one site or of the placement, where sites have so many options."""
        column = self.column or self.name
        labels = tuple(map(str, range(1, options + 1))) if self.of == "option" else self.labels
        return tuple(f"{column}_{label}" for label in labels) if labels else (column,)

    def values(self, view: View, options: int) -> Floats:
        """Return its numbers, `[sites, columns]` or `[columns]`; the layout clips them.

        Raises:
            ConfigError: the formula fails, or returns another shape.
        """
        width = () if self.of != "option" and not self.labels else (len(self.columns(options)),)
        shape = width if self.of == "placement" else (len(view.placement), *width)
        try:
            numbers = np.asarray(self.formula(view), dtype=np.float64)
        except CimenvError:
            raise
        except Exception as error:  # whatever a user's function does
            raise ConfigError(f"feature {self.name}: the formula fails: {where(error)}; correct it.") from error
        if numbers.shape != shape:
            raise ConfigError(
                f"feature {self.name}: the formula returned an array {list(numbers.shape)}; return one {list(shape)}."
            )
        return numbers if width else numbers[..., None]
