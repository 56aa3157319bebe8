"""CiMCompensationTabular-v0."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cimenv.core.errors import ConfigError, brief
from cimenv.envs.arguments import checked_flag, checked_options
from cimenv.envs.compensation import CompensationEnv
from cimenv.envs.episode import Episode
from cimenv.envs.info import Info
from cimenv.envs.observation import Vector
from cimenv.tasks.evaluators.table import TableEvaluator, regret

ONE_NETWORK = "a table holds one trained network, so give none"
FIXED = ("task", "reset_hooks", "evaluator", "store")


class CompensationTabularEnv(CompensationEnv):
    """`CiMCompensation-v0` on an enumerated task: every evaluation is read from a table.

    ## Description
    The same problem, spaces, rewards and infos as the real environment of the table's task; evaluations are rows of the
    table, nothing is simulated, and the optimum is known. `cimenv.tasks.shipped_tables()` names the tables that ship
    with the package.

    ## Action Space
    As in `CiMCompensation-v0`.

    ## Observation Space
    As in `CiMCompensation-v0`; feature errors are kept to six digits.

    ## Rewards
    As in `CiMCompensation-v0`.

    ## Starting State
    As in `CiMCompensation-v0`, without reset hooks and recipes: a table holds one trained network.

    ## Episode End
    As in `CiMCompensation-v0`.

    ## Information
    As in `CiMCompensation-v0`, and `optimum` (the largest J of the placements that an episode can reach:
    the feasible ones of at most `max_steps` blocks) and `regret` (`(optimum - objective) / (optimum - mean J)`, the
    mean over the same placements).

    ## Arguments
    * `table="lenet5-fashion-mini"`: the name of a shipped table, or a file written by `cimenv enumerate`.
    * `changes=None`: fields of the table's task that its counts can answer for otherwise: `budget`, `cost_weight`,
      `cost_weights`, `statistic`, `percentile`.
    * `trust=False`: whether a backbone or data set of one's own that the file names may be imported.
    * `reward`, `feedback`, `fit_log`, `features`, `invalid_action`, `invalid_penalty`, `max_sites`, `max_steps`,
      `render_mode`: as in `CiMCompensation-v0`; its other arguments are refused, for a table fixes them.

    ## Version History
    * v0: first version.
    """

    def __init__(
        self,
        table: str | Path = "lenet5-fashion-mini",
        changes: Mapping[str, Any] | None = None,
        trust: bool = False,
        *,
        reward: str = "dense",
        feedback: str = "step",
        fit_log: bool = False,
        features: Sequence[str] = (),
        invalid_action: str = "noop",
        invalid_penalty: float = 0.05,
        max_sites: int | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **fixed: Any,
    ) -> None:
        _refuse(fixed)
        if not isinstance(table, str | os.PathLike):
            raise ConfigError(f"table: got {brief(table)}; give the name of a shipped table, or the path of a file.")
        self.table = TableEvaluator(table, changes, trust=checked_flag("trust", trust))
        super().__init__(
            evaluator=self.table,
            reward=reward,
            feedback=feedback,
            fit_log=fit_log,
            features=features,
            invalid_action=invalid_action,
            invalid_penalty=invalid_penalty,
            max_sites=max_sites,
            max_steps=max_steps,
            render_mode=render_mode,
        )
        self.optimum, self.mean_objective = self.table.extremes_within(self.max_steps)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, Info]:
        """Start an episode without blocks.

        Raises:
            ConfigError: the seed is no int of at least 0, or there are `options`.
        """
        checked_options(options, (), ONE_NETWORK)
        return super().reset(seed=seed)

    def info(self, episode: Episode, invalid: bool = False) -> Info:
        """Return the infos of an episode."""
        info = super().info(episode, invalid)
        return {**info, "optimum": self.optimum, "regret": regret(info["objective"], self.optimum, self.mean_objective)}


def _refuse(fixed: Mapping[str, Any]) -> None:
    """Refuse arguments of the real environment that a table answers, unless they are empty."""
    for name, given in fixed.items():
        if name not in FIXED:
            raise TypeError(f"CompensationTabularEnv got an unexpected argument '{name}'")
        if not isinstance(given, list | tuple | None) or given:
            raise ConfigError(f"{name}: a table fixes it; use CiMCompensation-v0, or another table.")
