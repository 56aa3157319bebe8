"""What a search is: it proposes placements and observes their evaluations; and what one found."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, create_model

from cimenv.compensation.options import Placement
from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError, brief
from cimenv.evaluation.record import Evaluation
from cimenv.search.course import Course, shown
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.objective import Objective

STALE = 1_000  # rounds without a new placement after which a search is over

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Step:
    """One distinct evaluation of a search."""

    placement: Placement
    objective: float
    accuracy: float


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        method: name of the search.
        best: the best placement by the objective.
        objective: its J on validation.
        evaluation: its evaluation at search fidelity.
        evaluations: distinct placements requested.
        steps: every distinct evaluation in order; of `ladder`, those at full fidelity with shared blocks.
        passes: chips x images, all placements together (racing and ladder: fewer than placements x the task's).
        notice: one sentence where the evaluations allowed were too few for the method's first round, else empty.
    """

    method: str
    best: Placement
    objective: float
    evaluation: Evaluation
    evaluations: int
    steps: list[Step] = field(default_factory=list)
    passes: int = 0
    notice: str = ""

    @property
    def best_so_far(self) -> list[float]:
        """Return the best objective after every distinct evaluation."""
        return np.maximum.accumulate([step.objective for step in self.steps]).tolist()


class Search:
    """A search method: `propose` returns placements to evaluate, `observe` is told each result.

    A search of one's own is a subclass with a `name`; the keyword arguments of its constructor are its settings, which
    are checked by their types.

    Args:
        objective: of the task.
        generator: of a search that draws.
    """

    name: ClassVar[str]
    draws: ClassVar[bool] = False  # whether another seed may find another placement
    endless: ClassVar[bool] = False  # whether it ends only with its budget
    chooses_chips: ClassVar[bool] = False  # whether it runs placements on chips of its own choice, and so proposes none

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        self.objective, self.space, self.generator = objective, objective.space, generator

    def propose(self) -> list[Placement]:
        """Return placements to evaluate next; empty when the search is over."""
        raise NotImplementedError

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of an evaluation and its objective; the first is that of the empty placement."""
        del evaluation, value

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the type and the default of every setting, by name.

        Raises:
            ConfigError: a package that the search needs is not installed.
        """
        known = inspect.signature(cls.__init__, eval_str=True).parameters.values()
        return {p.name: (p.annotation, p.default) for p in known if p.kind is p.KEYWORD_ONLY}

    @classmethod
    def checked(cls, settings: Any) -> dict[str, Any]:
        """Return settings, once it is known that the search takes them and that what it needs is installed.

        Raises:
            ConfigError: it does not, or a package is missing.
        """
        if not isinstance(settings, Mapping):
            raise ConfigError(f"settings: got {brief(settings)}; give a mapping of arguments of {cls.name}.")
        model = create_model(f"settings of {cls.name}", __base__=Frozen, **cls.settings())
        return model.model_validate(settings).model_dump(exclude_unset=True)

    @classmethod
    def run(cls, ledger: Ledger, seed: int, settings: Mapping[str, Any]) -> SearchResult:
        """Search to the end, or until the ledger is exhausted.

        Args:
            ledger: evaluates, and counts.
            seed: of searches that draw.
            settings: checked already.
        """
        with shown(ledger.evaluator, cls.name, ledger.budget) as course:
            return _proposed(cls, ledger, seed, settings, course)


def _proposed(
    method: type[Search], ledger: Ledger, seed: int, settings: Mapping[str, Any], course: Course
) -> SearchResult:
    """Run a search that proposes."""
    course.begin(1)
    objective = Objective.of(ledger)
    search = method(objective, np.random.default_rng(seed), **settings)
    steps: dict[Placement, Step] = {}
    images = _note(ledger, objective, search, [objective.space.empty()], steps)
    course.end(0.0)
    stale, notice = 0, ""
    while not ledger.exhausted and stale < STALE:
        proposed = search.propose()
        if not proposed:
            break
        new = [p for p in dict.fromkeys(proposed) if p not in steps]
        stale = 0 if new else stale + 1
        room = len(new) if ledger.budget is None else ledger.budget - ledger.spent
        if room < len(new) and len(steps) == 1 and not method.endless:
            notice = _too_few(method.name, 1 + len(new), ledger)
            course.say(notice)
        chosen = set(new[:room])
        course.begin(len(chosen))
        _note(ledger, objective, search, [p for p in proposed if p in steps or p in chosen], steps)
        course.end(max(step.objective for step in steps.values()))
    best = max(steps.values(), key=lambda step: objective.rank(step.placement, step.objective))
    return SearchResult(
        method.name,
        best.placement,
        best.objective,
        ledger.evaluate(best.placement),
        ledger.spent,
        list(steps.values()),
        ledger.spent * ledger.task.chips * images,
        notice,
    )


def _too_few(method: str, needed: int, ledger: Ledger) -> str:
    """Return a sentence that says which budget fits a method's first round."""
    logged = "fit_log, which needs 2, or " if ledger.gains is not None else ""
    return (
        f"Method {method} needs {needed} evaluations for its first round, which is cut short at {ledger.budget}; allow "
        f"{needed} or more, or take {logged}random or surrogate, which use any number."
    )


def _note(
    ledger: Ledger,
    objective: Objective,
    search: Search,
    placements: list[Placement],
    steps: dict[Placement, Step],
) -> int:
    """Evaluate placements and tell the search; return the images of a chip."""
    images = 0
    for evaluation in ledger.evaluate_many(placements):
        value = objective.value(evaluation)
        steps.setdefault(evaluation.placement, Step(evaluation.placement, value, objective.accuracy(evaluation)))
        search.observe(evaluation, value)
        images = evaluation.images
    return images
