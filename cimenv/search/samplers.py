"""Optuna's samplers as searches: TPE and NSGA-II."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import InstanceOf

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Search
from cimenv.search.moves import repaired
from cimenv.tasks.objective import Objective

if TYPE_CHECKING:
    from optuna.trial import Trial


class Sampler(Search):
    """Asks one of Optuna's samplers for an option at every candidate site; what breaks the budget is repaired.

    Args:
        objective: of the task.
        generator: seeds the sampler, mends.
        settings: of the sampler.

    Raises:
        ConfigError: Optuna is not installed.
    """

    draws = endless = True
    sampler: ClassVar[str]  # its name in Optuna
    directions: ClassVar[tuple[str, ...]] = ("maximize",)
    defaults: ClassVar[dict[str, Any]]  # that differ from Optuna's

    def __init__(self, objective: Objective, generator: np.random.Generator, **settings: Any) -> None:
        super().__init__(objective, generator)
        optuna = self._optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(generator.integers(2**31))
        sampler = getattr(optuna.samplers, self.sampler)(seed=seed, **{**self.defaults, **settings})
        self.study = optuna.create_study(directions=list(self.directions), sampler=sampler)
        self.asked: Trial | None = None

    @classmethod
    def settings(cls) -> dict[str, Any]:
        """Return the arguments of the sampler; Optuna checks what they hold."""
        known = inspect.signature(getattr(cls._optuna().samplers, cls.sampler)).parameters
        return {name: (InstanceOf[object], None) for name in known if name != "seed"}

    @classmethod
    def _optuna(cls) -> Any:
        try:
            import optuna
        except ImportError:
            raise ConfigError(f"method: {cls.name} needs Optuna; pip install 'cimenv[agents]'.") from None
        return optuna

    def propose(self) -> list[Placement]:
        """Return the sampler's next placement."""
        self.asked = trial = self.study.ask()
        wanted = []
        for site, row in zip(self.space.sites, self.space.candidates, strict=True):
            choices = [int(option) for option in np.flatnonzero(row)]
            wanted.append(trial.suggest_categorical(site.name, choices) if len(choices) > 1 else 0)
        return [repaired(self.space, tuple(wanted), self.generator)]

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Tell the sampler."""
        if self.asked is None:  # the placement without blocks was not asked for
            return
        self.study.tell(self.asked, self.values(evaluation, value))
        self.asked = None

    def values(self, evaluation: Evaluation, value: float) -> list[float]:
        """Return the values of an evaluation for the sampler, one number a direction."""
        raise NotImplementedError


class Tpe(Sampler):
    """Tree-structured Parzen estimator of Optuna, which maximises J."""

    name, sampler = "tpe", "TPESampler"
    defaults: ClassVar[dict[str, Any]] = {"multivariate": True}

    def values(self, evaluation: Evaluation, value: float) -> list[float]:
        """Return J."""
        del evaluation
        return [value]


class Nsga2(Sampler):
    """NSGA-II of Optuna, which keeps the front of accuracy (as a score) against scalar cost, of which J is the best."""

    name, sampler = "nsga2", "NSGAIISampler"
    directions = ("maximize", "minimize")
    defaults: ClassVar[dict[str, Any]] = {"population_size": 16}

    def values(self, evaluation: Evaluation, value: float) -> list[float]:
        """Return score and cost."""
        del value
        return [self.objective.score(evaluation), self.objective.cost(evaluation.placement)]
