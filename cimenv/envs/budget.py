"""A limit on distinct evaluations as a wrapper: afterwards only known placements can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError
from cimenv.envs.base import PlacementEnv
from cimenv.envs.observation import Vector


class EvaluationBudget(gym.Wrapper[Vector, np.int64, Vector, np.int64]):
    """Counts the distinct placements of a whole run, over all its episodes.

    While the budget lasts nothing changes. Then actions that lead to a placement never evaluated are masked (and are
    no-ops like any masked action), so that an agent goes on learning from what it has paid for.

    Args:
        env: a placement environment, wrapped or not.
        evaluations: distinct placements, the empty one included.
        known: the account, (task key, placement) -> objective; one dictionary in several wrappers is one account.
    """

    def __init__(
        self,
        env: gym.Env[Vector, np.int64],
        evaluations: int,
        known: dict[tuple[str, Placement], float] | None = None,
    ) -> None:
        super().__init__(env)
        if evaluations < 1:
            raise ConfigError(f"evaluations: got {evaluations}; give at least 1.")
        inner = env.unwrapped
        assert isinstance(inner, PlacementEnv)
        self.inner, self.budget = inner, evaluations
        self.known = {} if known is None else known

    @property
    def spent(self) -> int:
        """Return how many distinct placements were evaluated."""
        return len(self.known)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions are allowed and paid for."""
        mask = self.inner.action_masks()
        if self.spent >= self.budget:
            for action in np.flatnonzero(mask):
                mask[action] = (self.inner.task_key, self.inner.placement_after(int(action))) in self.known
        return mask

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Reset the environment; the run's count goes on."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._noted(info)

    def step(self, action: np.int64) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Take an action; one that cannot be paid for is treated as masked."""
        if self.action_space.contains(action):
            self.inner.blocked = not self.action_masks()[int(action)]
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated, truncated, self._noted(info)

    def state(self) -> dict[str, Any]:
        """Return account and episode as JSON values."""
        known = [[task, list(placement), objective] for (task, placement), objective in self.known.items()]
        return {"known": known, "env": self.inner.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the account and the episode that `state()` described."""
        self.inner.restore(state["env"])
        self.known.clear()
        self.known.update({(task, tuple(placement)): objective for task, placement, objective in state["known"]})

    def _noted(self, info: dict[str, Any]) -> dict[str, Any]:
        if info["evaluated"]:
            self.known.setdefault((self.inner.task_key, self.inner.placement), info["objective"])
        info["action_mask"] = self.action_masks().astype(np.int8)
        info["run_evaluations"] = self.spent
        return info
