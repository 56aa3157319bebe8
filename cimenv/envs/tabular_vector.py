"""Many tabular environments as arrays: no Python loop over environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from cimenv.core.errors import ConfigError, InvalidActionError
from cimenv.envs.base import Info
from cimenv.envs.observation import Vector, View
from cimenv.envs.reward import TerminalReward
from cimenv.envs.tabular import CompensationTabularEnv

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
EPISODE = ("action_mask", "placement", "evaluated", "evaluations", "invalid_action")  # infos that are not a placement's
Batch = tuple[Vector, Floats, Booleans, Booleans, Info]


class TabularVectorEnv(gym.vector.VectorEnv[Vector, Integers, npt.NDArray[Any]]):
    """`gym.make_vec("CiMCompensationTabular-v0", num_envs=4096)`: the tabular environment as arrays.

    Spaces, rewards and infos are those of the single environment, a leading dimension added; an environment whose
    episode is over ignores its next action and starts anew (gymnasium's next-step autoreset).

    Args:
        num_envs: environments.
        table: the name of a shipped table, or a file written by `cimenv enumerate`.
        infos: `all`; or `mask` for `action_mask` alone, which is faster.
        copy: whether every step returns a new array of observations; if not, an array lives until the step after the
            next.
        arguments: of `CiMCompensationTabular-v0`.

    Raises:
        ConfigError: fewer than one environment, or unknown `infos`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}

    def __init__(
        self,
        num_envs: int = 1,
        table: str | Path = "lenet5-fashion-mini",
        *,
        infos: str = "all",
        copy: bool = True,
        **arguments: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs: got {num_envs}; give at least 1.")
        if infos not in ("all", "mask"):
            raise ConfigError(f"infos: got '{infos}'; give 'all' or 'mask'.")
        self.num_envs, self.infos, self.copy = num_envs, infos, copy
        self.single = CompensationTabularEnv(table, **arguments)
        self.single_observation_space = self.single.observation_space
        self.single_action_space = self.single.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.pages = Pages(self.single)
        self._rows = np.zeros(num_envs, dtype=np.int64)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.ones(num_envs, dtype=bool)
        self._some_ended = True
        self._every, self._shape = np.ones(num_envs, dtype=bool), (num_envs,)
        self._terminal = isinstance(self.single.reward, TerminalReward)
        self._left = 1.0 - np.arange(self.single.max_steps + 2) / self.single.max_steps
        shape = (num_envs, self.single.layout.size)
        self._buffers = None if copy else [np.empty(shape, np.float32) for _ in range(2)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, Info]:
        """Start every episode without blocks.

        Raises:
            ConfigError: any `options`: a table holds one trained network.
        """
        if options:
            raise ConfigError(f"reset options: got {options}, but a table holds one trained network; give none.")
        super().reset(seed=seed)
        return self.restart(self._every), self._infos(~self._every)

    def restart(self, which: Booleans) -> Vector:
        """Start the episodes of some environments anew; return the observations of all."""
        self._begin(which)
        self._some_ended = bool(self._ended.any())
        return self._observations()

    def _begin(self, which: Booleans) -> None:
        self._rows[which] = 0
        self._steps[which] = 0
        self._ended[which] = False

    def step(self, actions: Integers) -> Batch:
        """Take an action in every environment.

        Raises:
            InvalidActionError: an action outside the space, or a masked one with `invalid_action="raise"`.
        """
        chosen = np.asarray(actions, dtype=np.int64)
        pages, single, fresh, some_fresh = self.pages, self.single, self._ended, self._some_ended
        if chosen.shape != self._shape or np.maximum.reduce(chosen.view(np.uint64)) >= pages.actions:  # or negative
            raise InvalidActionError(f"actions {actions!r} are outside {self.action_space}; take integers within it.")
        moves = self._rows * pages.actions + chosen
        invalid = pages.masked.take(moves)
        if single.invalid_action == "raise" and (invalid & ~fresh).any():
            raise InvalidActionError("a masked action was taken; choose those that action_masks() allows.")
        self._rows = pages.after.take(moves)
        self._steps = self._steps + 1
        self._ended = pages.ends.take(moves) | (self._steps >= single.max_steps)
        if self._terminal:
            rewards = np.where(self._ended, pages.objective.take(self._rows), 0.0) - single.invalid_penalty * invalid
        else:
            rewards = pages.gain.take(moves)
        if some_fresh:
            self._begin(fresh)
            rewards[fresh], invalid[fresh] = 0.0, False
        self._some_ended = bool(np.logical_or.reduce(self._ended))
        cut = np.zeros(self.num_envs, dtype=bool)
        return self._observations(), rewards, self._ended.copy(), cut, self._infos(invalid)

    def action_masks(self) -> Booleans:
        """Return which actions are allowed now, `[num_envs, actions]`."""
        masks = self.pages.masks.take(self._rows, axis=0)
        if self._some_ended:
            masks[self._ended, 1:] = False
        return masks

    def _observations(self) -> Vector:
        buffer = None
        if self._buffers is not None:
            self._buffers.reverse()
            buffer = self._buffers[0]
        seen = self.pages.observations.take(self._rows, axis=0, out=buffer, mode="clip")  # faster than checking
        seen[:, self.pages.left] = self._left.take(self._steps)
        return seen

    def _infos(self, invalid: Booleans) -> Info:
        info: Info = {"action_mask": self.action_masks().view(np.int8), "_action_mask": self._every}
        if self.infos == "mask":
            return info
        rows, pages = self._rows, self.pages
        hidden = self.single.feedback == "reset"
        shown = np.where(self._ended, rows, 0) if hidden else rows
        blocks = pages.blocks.take(rows)
        found: Info = {
            "placement": pages.placements.take(rows, axis=0),
            **{name: column.take(shown) for name, column in pages.columns.items()},
            "evaluated": shown == rows,
            "evaluations": 1 + ((blocks > 0) & self._ended if hidden else blocks),
            "invalid_action": invalid,
        }
        info |= found | {f"_{name}": self._every for name in found}
        cost = {name: column.take(rows) for name, column in pages.cost.items()}
        info["cost"] = cost | {f"_{name}": self._every for name in cost}
        return info | {"_cost": self._every}


class Pages:
    """Every feasible placement of a tabular environment as a row of arrays.

    Attributes:
        actions: their number.
        after: the row that a move (row * actions + action) leads to; itself where the action is masked.
        masked: whether the move's action is masked.
        ends: whether the move stops, or leads to where nothing more can be placed.
        gain: what the move pays with the dense reward.
        masks: allowed actions, `[rows, actions]`.
        observations: `[rows, size]`, but for the share of steps left, column `left`.
        objective: J, `[rows]`.
        placements: int8, -1 is padding, `[rows, max_sites]`.
        blocks: blocks placed, `[rows]`.
        columns: infos by name that are an evaluation's, `[rows]` each.
        cost: infos by name that are a placement's, `[rows]` each.
    """

    def __init__(self, single: CompensationTabularEnv) -> None:
        single.reset()
        space, evaluator = single.objective.space, single.ledger.evaluator
        self.left = single.layout.names.index("steps_left")
        every = list(space.all_placements())
        number = {placement: row for row, placement in enumerate(every)}
        self.actions = int(single.action_space.n)  # type: ignore[attr-defined]
        count = len(every)
        after = np.full((count, self.actions), -1, dtype=np.int64)
        self.observations = np.empty((count, single.layout.size), dtype=np.float32)
        infos: list[Info] = []
        none = evaluator.evaluate(space.empty())
        for row, placement in enumerate(every):
            single.placement, single._evaluation, single._ended = placement, evaluator.evaluate(placement), False
            for action in np.flatnonzero(single.action_masks()):
                after[row, action] = number[single.placement_after(int(action))]
            shown = none if single.feedback == "reset" else single._evaluation
            view = View(shown, single.objective, placement, space.affordable(placement), 1.0)
            self.observations[row] = single.layout.observe(view)
            single._ended = True  # what feedback="reset" hides before
            infos.append({name: value for name, value in single._info(invalid=False).items() if name not in EPISODE})
        self.placements = np.full((count, single.max_sites), -1, dtype=np.int8)
        self.placements[:, : len(space.sites)] = every
        self.blocks = (np.array(every) > 0).sum(axis=1)
        self.columns = {name: np.array([info[name] for info in infos]) for name in infos[0] if name != "cost"}
        self.cost = {name: np.array([info["cost"][name] for info in infos]) for name in infos[0]["cost"]}
        self.objective: Floats = self.columns["objective"]
        self._moves(after, single.invalid_penalty)

    def _moves(self, after: Integers, penalty: float) -> None:
        """Lay out what every move does, from the row that each allowed one leads to (-1: masked)."""
        rows = np.arange(len(after))[:, None]
        self.masks = after >= 0
        full: Booleans = np.logical_not(self.masks[:, 1:].any(axis=1))
        target = np.where(self.masks, after, rows)
        stops = np.zeros_like(self.masks)
        stops[:, 0] = True
        self.after, self.masked = target.reshape(-1), ~self.masks.reshape(-1)
        self.ends = (stops | full[target]).reshape(-1)
        self.gain = (self.objective[target] - self.objective[rows] - penalty * ~self.masks).reshape(-1)
