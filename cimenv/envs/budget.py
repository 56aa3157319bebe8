"""A limit on distinct evaluations as a wrapper: afterwards only known placements can be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import Placement
from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.envs.actions import Ends
from cimenv.envs.base import PlacementEnv
from cimenv.envs.episode import Episode
from cimenv.envs.observation import Vector
from cimenv.envs.scenario import Scenario

Known = dict[tuple[str, Placement], float]
NOTHING_KNOWN: tuple[str, int, Ends] = ("", 0, np.zeros((0, 0), dtype=np.int64))


class EvaluationBudget(gym.Wrapper[Vector, np.int64, Vector, np.int64]):
    """Counts the distinct placements of a whole run, over all its episodes; never more than the budget.

    While the budget lasts nothing changes. Then actions are masked (and no-ops, like any masked action) that lead to
    no known placement, so that an agent goes on learning from what it has paid for: with `feedback="step"` those whose
    placement was never evaluated; with `feedback="reset"`, where an episode pays for its last placement alone, those
    after which no known placement can be its last. So every known placement stays within reach, and stop is masked
    where blocks stand that nobody has paid for. At least one action is always allowed.

    Where a masked action (or the last evaluation, taken by another wrapper of the account) puts every known end out of
    reach, the episode goes back to the last known placement that it passed.

    Args:
        env: a placement environment, wrapped or not.
        evaluations: distinct placements, the empty one included.
        known: the account, (task key, placement) -> objective; one dictionary in several wrappers is one account.

    Raises:
        ConfigError: `env` is no placement environment, `evaluations` is below 1, or `known` is no dictionary.
    """

    def __init__(self, env: gym.Env[Vector, np.int64], evaluations: int, known: Known | None = None) -> None:
        inner = env.unwrapped if isinstance(env, gym.Env) else None
        if not isinstance(inner, PlacementEnv):
            raise ConfigError(f"env: got {brief(env)}; give a placement environment, such as CiMCompensation-v0.")
        if not isinstance(known, dict | None):
            raise ConfigError(f"known: got {brief(known)}; give a dictionary or None.")
        super().__init__(env)
        self.inner, self.budget = inner, checked_int("evaluations", evaluations, 1)
        self.known: Known = {} if known is None else known
        self._paid: Placement = ()  # the last known placement that the episode passed
        self._ends = NOTHING_KNOWN

    @property
    def spent(self) -> int:
        """Return how many distinct placements were evaluated."""
        return len(self.known)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions are allowed and, once the budget is spent, lead to what is paid for."""
        episode, actions = self.inner.episode, self.inner.actions
        mask = actions.mask(episode)
        if self.spent < self.budget or episode is None or episode.ended:
            return mask
        if self.inner.feedback == "step":
            for action in np.flatnonzero(mask):
                mask[action] = (episode.scenario.key, actions.placed(episode, int(action))) in self.known
            return mask
        mask &= actions.leading_to(episode, self._known_ends(episode))
        if not mask.any():
            mask[0] = True  # from where the episode goes back to
        return mask

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Reset the environment; the run's count goes on.

        Raises:
            BudgetError: a reset hook drew a task whose empty placement is not known, and the budget is spent.
        """
        with self.inner.limited_by(self):
            observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._noted(info)

    def step(self, action: np.int64) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Take an action; one that cannot be paid for is treated as masked."""
        with self.inner.limited_by(self):
            observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated, truncated, self._noted(info)

    def begins(self, scenario: Scenario) -> bool:
        """Return whether an episode of this scenario may begin: its empty placement is known or can be paid for."""
        return self.spent < self.budget or (scenario.key, scenario.evaluator.space.empty()) in self.known

    def ruling(self, episode: Episode, action: int) -> tuple[Placement, bool]:
        """Return the placement from which the episode goes on, and whether the action is allowed.

        The last known placement that the episode passed, where no other known one can be reached and none can be paid
        for; else the present one.
        """
        allowed = bool(self.action_masks()[action])
        if self.spent < self.budget or self.inner.feedback == "step":
            return episode.placement, allowed
        later = episode.steps if allowed else episode.steps + 1
        reachable = self.inner.actions.reachable(episode, self._known_ends(episode), later).any()
        return episode.placement if reachable else self._paid, allowed

    def state(self) -> dict[str, Any]:
        """Return account and episode as JSON values."""
        known = [[task, list(placement), objective] for (task, placement), objective in self.known.items()]
        return {"known": known, "paid": list(self._paid), "env": self.inner.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the account and the episode that `state()` described."""
        self.inner.restore(state["env"])
        self.known.clear()
        self.known.update({(task, tuple(placement)): objective for task, placement, objective in state["known"]})
        self._paid = tuple(state.get("paid", (0,) * len(self.inner.block_options.sites)))
        self._ends = NOTHING_KNOWN

    def _known_ends(self, episode: Episode) -> Ends:
        """Return the known placements of the episode's task, `[n, sites]`."""
        key, count, ends = self._ends
        if (key, count) != (episode.scenario.key, self.spent):
            own = [placement for task, placement in self.known if task == episode.scenario.key]
            ends = np.array(own, dtype=np.int64).reshape(len(own), len(episode.placement))
            self._ends = (episode.scenario.key, self.spent, ends)
        return ends

    def _noted(self, info: dict[str, Any]) -> dict[str, Any]:
        episode = self.inner.episode
        assert episode is not None
        key = (episode.scenario.key, episode.placement)
        if info["evaluated"]:
            self.known.setdefault(key, info["objective"])
        if key in self.known:
            self._paid = episode.placement
        info["action_mask"] = self.action_masks().astype(np.int8)
        info["run_evaluations"] = self.spent
        return info
