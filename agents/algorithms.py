"""The algorithms by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import gymnasium as gym
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.config import AgentConfig, Algorithm
from cimenv.core.errors import ConfigError

ALGORITHMS: Mapping[Algorithm, type[BaseAlgorithm]] = {
    "maskable_ppo": MaskablePPO,
    "ppo": PPO,
    "dqn": DQN,
    "a2c": A2C,
}


def new_model(config: AgentConfig, env: gym.Env) -> BaseAlgorithm:
    """Return an untrained agent.

    Raises:
        ConfigError: the algorithm refuses its hyper-parameters.
    """
    try:
        return ALGORITHMS[config.algorithm](
            "MlpPolicy", env, seed=config.seed, device="cpu", **copy.deepcopy(config.hyper_parameters)
        )
    except (TypeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"hyper_parameters: {reason}; use arguments of {config.algorithm}.") from None
