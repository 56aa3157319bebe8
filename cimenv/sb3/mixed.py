"""Several vector environments as one: a policy that is trained on many tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from cimenv.core.errors import ConfigError, brief


class MixedVecEnv(VecEnv):
    """Environments of several tasks side by side: real ones in a `DummyVecEnv`, tables in a `TabularVecEnv`.

    Their spaces must agree, so all need one `max_sites` and as many options.

    Args:
        parts: vector environments.

    Raises:
        ConfigError: no part, one that is no vector environment, or two of them with other spaces.
    """

    def __init__(self, parts: Sequence[VecEnv]) -> None:
        if not isinstance(parts, list | tuple) or not all(isinstance(part, VecEnv) for part in parts):
            raise ConfigError(f"parts: got {brief(parts)}; give a list of SB3's vector environments.")
        if not parts:
            raise ConfigError("parts: got none; give at least one vector environment.")
        first = parts[0]
        for k, part in enumerate(parts):
            if (part.observation_space, part.action_space) != (first.observation_space, first.action_space):
                raise ConfigError(
                    f"parts: number {k} has {part.action_space} and observations {part.observation_space.shape}, the "
                    f"first {first.action_space} and {first.observation_space.shape}; give all one max_sites, and "
                    "tasks with as many options."
                )
        self.parts = tuple(parts)
        self.starts = np.cumsum([0, *(part.num_envs for part in parts)])
        super().__init__(int(self.starts[-1]), first.observation_space, first.action_space)

    def reset(self) -> VecEnvObs:
        """Start every episode."""
        parts = zip(self.parts, self._split(self._seeds), self._split(self._options), strict=True)
        for part, seeds, options in parts:
            if seeds[0] is not None:
                part.seed(seeds[0])  # SB3 counts on from there
            if any(options):
                part.set_options(list(options))
        observations = [part.reset() for part in self.parts]
        self.reset_infos = [info for part in self.parts for info in part.reset_infos]
        self._reset_seeds()
        self._reset_options()
        return np.concatenate(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Hand every part its actions."""
        for part, own in zip(self.parts, self._split(actions), strict=True):
            part.step_async(own)

    def step_wait(self) -> VecEnvStepReturn:
        """Collect what the parts return."""
        parts = [part.step_wait() for part in self.parts]
        observations, rewards, ended = (np.concatenate([each[k] for each in parts]) for k in range(3))
        return observations, rewards, ended, [info for each in parts for info in each[3]]

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            part.close()

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the environments of all parts have an attribute."""
        return all(part.has_attr(attr_name) for part in self.parts)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of every chosen environment."""
        return self._gathered(indices, lambda part, own: part.get_attr(attr_name, own))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of every chosen environment."""
        for part, own in self._chosen(indices):
            part.set_attr(attr_name, value, own)

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **named: Any) -> list[Any]:
        """Call a method of every chosen environment."""
        return self._gathered(
            indices, lambda part, own: part.env_method(method_name, *method_args, indices=own, **named)
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether every chosen environment has a wrapper."""
        return self._gathered(indices, lambda part, own: part.env_is_wrapped(wrapper_class, own))

    def get_images(self) -> Sequence[Any]:
        """Return the pictures of all environments."""
        return [image for part in self.parts for image in part.get_images()]

    def _split(self, values: Any) -> list[Any]:
        return [values[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def _numbers(self, indices: VecEnvIndices) -> list[int]:
        numbers = [int(number) for number in self._get_indices(indices)]
        for number in numbers:
            if not -self.num_envs <= number < self.num_envs:
                raise IndexError(f"indices: got {number}; there are {self.num_envs} environments.")
        return [number % self.num_envs for number in numbers]

    def _chosen(self, indices: VecEnvIndices) -> Iterator[tuple[VecEnv, list[int]]]:
        """Yield the parts with the numbers of their chosen environments."""
        chosen = sorted(set(self._numbers(indices)))
        for part, start in zip(self.parts, self.starts.tolist(), strict=False):
            own = [number - start for number in chosen if start <= number < start + part.num_envs]
            if own:
                yield part, own

    def _gathered(self, indices: VecEnvIndices, ask: Callable[[VecEnv, list[int]], list[Any]]) -> list[Any]:
        """Return the answers of the parts, in the order of `indices`."""
        answers = [answer for part, own in self._chosen(indices) for answer in ask(part, own)]
        numbers = self._numbers(indices)
        by_number = dict(zip(sorted(set(numbers)), answers, strict=True))
        return [by_number[number] for number in numbers]
