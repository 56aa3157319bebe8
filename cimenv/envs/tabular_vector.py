"""Many tabular environments as arrays: no Python loop over environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, EpisodeError, InvalidActionError, brief
from cimenv.envs.arguments import (
    MOST_ENVS,
    checked_actions,
    checked_choice,
    checked_flag,
    checked_mask,
    checked_options,
    checked_seeds,
)
from cimenv.envs.info import Info
from cimenv.envs.observation import Vector
from cimenv.envs.reward import TerminalReward
from cimenv.envs.tabular import ONE_NETWORK, CompensationTabularEnv
from cimenv.envs.transitions import Booleans, Floats, Integers, Transitions

Batch = tuple[Vector, Floats, Booleans, Booleans, Info]


class TabularVectorEnv(gym.vector.VectorEnv[Vector, Integers, npt.NDArray[Any]]):
    """`gym.make_vec("CiMCompensationTabular-v0", num_envs=4096)`: the tabular environment as arrays.

    Spaces, rewards, seeds and infos are those of gymnasium's SyncVectorEnv on as many single environments, a leading
    dimension added; an action outside the space raises also where it would be ignored.

    Args:
        num_envs: environments.
        table: the name of a shipped table, or a file written by `cimenv enumerate`.
        autoreset_mode: gymnasium's AutoresetMode or its value. `NextStep`: an environment whose episode is over
            ignores its next action and starts anew. `SameStep`: it starts anew at once; what it ended with stands in
            the infos `final_obs` and `final_info`. `Disabled`: it waits for `reset(options={"reset_mask": ended})`.
        infos: `all`; or `mask` for `action_mask` alone, which is faster.
        copy: whether every step returns a new array of observations; if not, an array lives until the step after the
            next.
        changes: as in `CiMCompensationTabular-v0`, like the arguments that follow; there is no `render_mode`, for
            arrays are not drawn.

    Raises:
        ConfigError: fewer than one environment, or an argument of another type.
        UnknownNameError: unknown `infos` or `autoreset_mode`.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}

    def __init__(
        self,
        num_envs: int = 1,
        table: str | Path = "lenet5-fashion-mini",
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        infos: str = "all",
        copy: bool = True,
        changes: Mapping[str, Any] | None = None,
        trust: bool = False,
        reward: str = "dense",
        feedback: str = "step",
        fit_log: bool = False,
        features: Sequence[str] = (),
        invalid_action: str = "noop",
        invalid_penalty: float = 0.05,
        max_sites: int | None = None,
        max_steps: int | None = None,
        **fixed: Any,
    ) -> None:
        self.num_envs = checked_int("num_envs", num_envs, 1, MOST_ENVS)
        checked_choice("infos", infos, ("all", "mask"))
        self.infos, self.copy, self.autoreset_mode = infos, checked_flag("copy", copy), _mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        if (mode := fixed.pop("render_mode", None)) is not None:
            raise ConfigError(f"render_mode: got {brief(mode)}, but arrays are not drawn; use a single environment.")
        self.single = CompensationTabularEnv(
            table,
            changes,
            trust,
            reward=reward,
            feedback=feedback,
            fit_log=fit_log,
            features=features,
            invalid_action=invalid_action,
            invalid_penalty=invalid_penalty,
            max_sites=max_sites,
            max_steps=max_steps,
            **fixed,
        )
        self.single_observation_space = self.single.observation_space
        self.single_action_space = self.single.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.transitions = Transitions(self.single)
        self._rows = np.zeros(num_envs, dtype=np.int64)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.ones(num_envs, dtype=bool)
        self._some_ended, self._started = True, False
        self._every, self._shape = np.ones(num_envs, dtype=bool), (num_envs,)
        self._every.setflags(write=False)  # infos share it
        self._terminal = isinstance(self.single.reward, TerminalReward)
        self._seeds: list[int | None] = [None] * num_envs
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._left = 1.0 - np.arange(self.single.max_steps + 1) / self.single.max_steps
        shape = (num_envs, self.single.layout.size)
        self._buffers = None if copy else [np.empty(shape, np.float32) for _ in range(2)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, Info]:
        """Start episodes without blocks.

        Args:
            seed: `seed + k` is that of environment k; or a list of one each.
            options: `{"reset_mask": mask}`, a boolean array `[num_envs]`, restarts some environments; infos of the
                others are 0.

        Raises:
            ConfigError: other `options`, or a seed or mask of another type or length.
            EpisodeError: `reset_mask` before every environment has begun.
        """
        given = checked_options(options, ("reset_mask",), f"{ONE_NETWORK} but reset_mask")
        seeds, which = checked_seeds(seed, self.num_envs), self._every
        if "reset_mask" in given:
            which = checked_mask(given["reset_mask"], self.num_envs)
            if not self._started:
                raise EpisodeError("reset_mask: no environment has begun; call reset() without it first.")
        for k, own in enumerate(seeds):
            if own is not None and which[k]:
                self._seeds[k], self._generators[k] = own, None
        self._started = True
        observations = self.restart(which)
        infos = self._infos(~self._every)
        return observations, infos if which is self._every else _only(infos, which)

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
            EpisodeError: before `reset`; or, with autoreset disabled, where an episode is over.
            InvalidActionError: an action outside the space, or a masked one with `invalid_action="raise"`.
        """
        transitions, single, fresh, some_fresh = self.transitions, self.single, self._ended, self._some_ended
        chosen = self._checked(actions)
        moves = self._rows * transitions.actions + chosen
        invalid = transitions.masked.take(moves)
        if single.invalid_action == "raise" and (invalid & ~fresh).any():
            raise InvalidActionError("a masked action was taken; choose those that action_masks() allows.")
        self._rows = transitions.after.take(moves)
        self._steps = self._steps + 1
        self._ended = transitions.ends.take(moves) | (self._steps >= single.max_steps)
        if self._terminal:
            reached = np.where(self._ended, transitions.objective.take(self._rows), 0.0)
            rewards = reached - single.invalid_penalty * invalid
        else:
            rewards = transitions.gain.take(moves)
        if some_fresh:
            self._begin(fresh)
            rewards[fresh], invalid[fresh] = 0.0, False
        self._some_ended = bool(np.logical_or.reduce(self._ended))
        ended, cut = self._ended.copy(), np.zeros(self.num_envs, dtype=bool)
        if self._some_ended and self.autoreset_mode == AutoresetMode.SAME_STEP:
            final = self._final(ended, invalid)
            return self.restart(ended), rewards, ended, cut, self._infos(invalid & ~ended) | final
        return self._observations(), rewards, ended, cut, self._infos(invalid)

    def _checked(self, actions: Integers) -> Integers:
        """Return the actions; whether they lie in the space is seen at once for all of them."""
        if not self._started:
            raise EpisodeError("The episodes have not begun; call reset() first.")
        if self._some_ended and self.autoreset_mode == AutoresetMode.DISABLED:
            over = brief(np.flatnonzero(self._ended).tolist())
            raise EpisodeError(f"The episodes of environments {over} are over; reset them by options['reset_mask'].")
        if type(actions) is np.ndarray and actions.dtype == np.int64 and actions.shape == self._shape:
            chosen = actions
        else:
            chosen = checked_actions(actions, self.num_envs)
        if np.maximum.reduce(chosen.view(np.uint64)) >= self.transitions.actions:  # or negative
            k = int(((chosen < 0) | (chosen >= self.transitions.actions)).argmax())
            raise InvalidActionError(
                f"action {chosen[k]} of environment {k} is outside {self.single_action_space}; take an integer from 0 "
                f"to {self.transitions.actions - 1}."
            )
        return chosen

    def _final(self, ended: Booleans, invalid: Booleans) -> Info:
        """Return the last information of the episodes that are over."""
        observations = np.full(self.num_envs, None, dtype=object)
        seen = self.transitions.observations.take(self._rows[ended], axis=0)
        seen[:, self.transitions.left] = self._left[self._steps[ended]]
        for k, one in zip(np.flatnonzero(ended), seen, strict=True):
            observations[k] = one
        final = _only(self._infos(invalid), ended)
        return {"final_obs": observations, "_final_obs": ended.copy(), "final_info": final, "_final_info": ended.copy()}

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """Return the seeds of all environments."""
        self._seed_all()
        return tuple(self._seeds)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Return the generators of all environments; episodes of a table draw nothing from them."""
        self._seed_all()
        return tuple(generator for generator in self._generators if generator is not None)

    def _seed_all(self) -> None:
        for k, generator in enumerate(self._generators):
            if generator is None:
                self._generators[k], self._seeds[k] = seeding.np_random(self._seeds[k])

    def action_masks(self) -> Booleans:
        """Return which actions are allowed now, `[num_envs, actions]`."""
        masks = self.transitions.masks.take(self._rows, axis=0)
        if self._some_ended:
            masks[self._ended, 1:] = False
        return masks

    def _observations(self) -> Vector:
        buffer = None
        if self._buffers is not None:
            self._buffers.reverse()
            buffer = self._buffers[0]
        seen = self.transitions.observations.take(self._rows, axis=0, out=buffer, mode="clip")  # faster than checking
        seen[:, self.transitions.left] = self._left.take(self._steps, mode="clip")
        return seen

    def _infos(self, invalid: Booleans) -> Info:
        info: Info = {"action_mask": self.action_masks().view(np.int8), "_action_mask": self._every}
        if self.infos == "mask":
            return info
        rows, transitions = self._rows, self.transitions
        hidden = self.single.feedback == "reset"
        shown_rows = np.where(self._ended, rows, 0) if hidden else rows
        blocks = transitions.blocks.take(rows)
        infos: Info = {
            "placement": transitions.placements.take(rows, axis=0),
            **{name: column.take(shown_rows) for name, column in transitions.columns.items()},
            "evaluated": shown_rows == rows,
            "evaluations": 1 + ((blocks > 0) & self._ended if hidden else blocks),
            "invalid_action": invalid,
        }
        info |= infos | {f"_{name}": self._every for name in infos}
        cost = {name: column.take(rows) for name, column in transitions.cost.items()}
        info["cost"] = cost | {f"_{name}": self._every for name in cost}
        return info | {"_cost": self._every}


def _mode(given: str | AutoresetMode) -> AutoresetMode:
    checked_choice("autoreset_mode", getattr(given, "value", given), [mode.value for mode in AutoresetMode])
    return AutoresetMode(given)


def _only(infos: Info, which: Booleans) -> Info:
    """Return the infos of some environments; those of the others are 0 (None where they are objects)."""
    chosen: Info = {}
    for name, value in infos.items():
        if name.startswith("_"):
            chosen[name] = which.copy()
        elif isinstance(value, dict):
            chosen[name] = _only(value, which)
        else:
            chosen[name] = np.zeros_like(value)
            chosen[name][~which] = None if value.dtype == object else 0
            chosen[name][which] = value[which]
    return chosen
