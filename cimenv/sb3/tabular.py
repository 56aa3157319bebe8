"""The vectorised tabular environment with the interface of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from cimenv.core.errors import ConfigError, brief
from cimenv.envs import TabularVectorEnv
from cimenv.envs.arguments import checked_number
from cimenv.envs.info import Info

# What all environments share: nothing of an episode.
SHARED = frozenset(("action_names", "base_task", "block_options", "feedback", "layout", "max_sites", "max_steps"))
SHARED |= {"optimum", "outcome", "training_histories"}


class TabularVecEnv(VecEnv):
    """Wraps a `TabularVectorEnv` for SB3, which takes no gymnasium vector environment.

    Episodes that end begin anew at once; `terminal_observation`, the return and length of the episode (`episode`, as
    Monitor writes them) and what the environment tells of its end stand in their infos. `env_method("action_masks")`
    serves MaskablePPO.

    The infos of a running episode are empty: `PlacementCallback` counts what episodes end with.

    Args:
        envs: the environments, with `infos="all"` and `copy=True`.
        reward_scale: what rewards are multiplied by, so that one policy weighs tasks alike whose J differ in spread;
            `episode` in the infos counts them as they are.

    Raises:
        ConfigError: `envs` are no arrays of environments, tell less, reuse their arrays, which SB3 keeps from step to
            step, or begin anew by themselves within a step; `reward_scale` is not finite and above 0.
    """

    def __init__(self, envs: TabularVectorEnv, reward_scale: float = 1.0) -> None:
        if not isinstance(envs, TabularVectorEnv):
            raise ConfigError(f"envs: got {brief(envs)}; give a TabularVectorEnv.")
        if envs.infos != "all" or not envs.copy:
            raise ConfigError(f"envs: got infos='{envs.infos}', copy={envs.copy}; give infos='all' and copy=True.")
        if envs.autoreset_mode == AutoresetMode.SAME_STEP:
            raise ConfigError("envs: got autoreset_mode SameStep; give NextStep, for SB3 wants its own kind of infos.")
        self.envs, self.reward_scale = envs, checked_number("reward_scale", reward_scale, above=True)
        self.actions = np.zeros(envs.num_envs, dtype=np.int64)
        self.returns, self.lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, dtype=np.int64)
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """Start every episode."""
        observations, infos = self.envs.reset(seed=list(self._seeds))
        self.reset_infos = [_of_one(infos, k) for k in range(self.num_envs)]
        self.returns[:], self.lengths[:] = 0.0, 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Take note of the actions."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take them; episodes that end begin anew."""
        observations, rewards, ended, _, every = self.envs.step(self.actions)
        self.returns += rewards
        self.lengths += 1
        infos: list[Info] = [{} for _ in range(self.num_envs)]
        if ended.any():
            for k in np.flatnonzero(ended):
                episode = {"r": float(self.returns[k]), "l": int(self.lengths[k])}
                infos[k] = {**_of_one(every, int(k)), "episode": episode, "TimeLimit.truncated": False}
                infos[k]["terminal_observation"] = observations[k].copy()
            self.returns[ended], self.lengths[ended] = 0.0, 0
            observations = self.envs.restart(ended)
        return observations, (rewards * self.reward_scale).astype(np.float32), ended, infos

    def close(self) -> None:
        """Close."""
        self.envs.close()

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the environments have an attribute."""
        return hasattr(self.envs, attr_name) or attr_name in SHARED

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute that all environments share, once for each.

        Raises:
            AttributeError: there is none; an episode's state is an array of `envs`, not an attribute.
        """
        owner = self.envs.single if attr_name in SHARED else self.envs
        return [getattr(owner, attr_name) for _ in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: what the environments do is laid out when they are made.

        Raises:
            ConfigError: always.
        """
        del value, indices
        raise ConfigError(f"{attr_name}: arrays of environments cannot be changed; make new ones with it.")

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **named: Any) -> list[Any]:
        """Call a method for every environment; `action_masks` is computed for all at once.

        Raises:
            AttributeError: a method of one episode, which arrays do not have.
        """
        if method_name == "action_masks":
            masks = self.envs.action_masks()
            return [masks[k] for k in self._chosen(indices)]
        (method, *_) = self.get_attr(method_name, indices)
        return [method(*method_args, **named) for _ in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether episodes are reported as by a wrapper of this class: true for SB3's Monitor, false for others.

        Returns and lengths of episodes stand in the infos, unscaled, as Monitor writes them; so nothing that asks for
        Monitor counts them again from rewards.
        """
        if not isinstance(wrapper_class, type):
            raise ConfigError(f"wrapper_class: got {brief(wrapper_class)}; give the class of a wrapper.")
        return [wrapper_class is Monitor for _ in self._chosen(indices)]

    def get_images(self) -> Sequence[Any]:
        """Return no pictures: arrays are not drawn."""
        return [None] * self.num_envs

    def _chosen(self, indices: VecEnvIndices) -> Iterable[int]:
        return self._get_indices(indices)


def _of_one(infos: Info, number: int) -> Info:
    """Return the infos of one environment from those of all."""
    return {
        name: _of_one(value, number) if isinstance(value, dict) else value[number]
        for name, value in infos.items()
        if not name.startswith("_")
    }
