"""Optuna's samplers as searches: TPE and NSGA-II."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.search.moves import repaired
from cimenv.tasks.objective import Objective

if TYPE_CHECKING:
    from optuna.trial import Trial


def _optuna(kind: str) -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(f"method: {kind} needs Optuna; pip install 'cimenv[agents]'.") from None
    return optuna


def sampler_settings(kind: Literal["tpe", "nsga2"]) -> list[str]:
    """Return the settings that a search on one of Optuna's samplers takes.

    Raises:
        ConfigError: Optuna is not installed.
    """
    samplers = _optuna(kind).samplers
    made = samplers.TPESampler if kind == "tpe" else samplers.NSGAIISampler
    return [name for name in inspect.signature(made).parameters if name != "seed"]


class Sampler:
    """Asks one of Optuna's samplers for an option at every candidate site; what breaks the budget is repaired.

    TPE maximises J. NSGA-II keeps the front of accuracy (as a score) against scalar cost, of which J is the best.

    Args:
        objective: of the task.
        generator: seeds the sampler, mends.
        kind: `tpe` or `nsga2`.
        settings: of Optuna's TPESampler or NSGAIISampler.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(
        self, objective: Objective, generator: np.random.Generator, *, kind: Literal["tpe", "nsga2"], **settings: Any
    ) -> None:
        optuna = _optuna(kind)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.objective, self.space, self.generator, self.kind = objective, objective.space, generator, kind
        seed = int(generator.integers(2**31))
        if kind == "tpe":
            sampler: Any = optuna.samplers.TPESampler(seed=seed, **{"multivariate": True, **settings})
            self.study = optuna.create_study(direction="maximize", sampler=sampler)
        else:
            sampler = optuna.samplers.NSGAIISampler(seed=seed, **{"population_size": 16, **settings})
            self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self.asked: Trial | None = None

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
        if self.kind == "tpe":
            self.study.tell(self.asked, value)
        else:
            self.study.tell(self.asked, [self.objective.score(evaluation), self.objective.cost(evaluation.placement)])
        self.asked = None
