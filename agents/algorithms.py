"""The algorithms by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gymnasium as gym
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.config import AgentConfig, Algorithm, Policy
from agents.environment import placement_env
from agents.hyper_parameters import checked
from cimenv.core.errors import ConfigError
from cimenv.sb3 import SitePolicy

ALGORITHMS: Mapping[Algorithm, type[BaseAlgorithm]] = {
    "maskable_ppo": MaskablePPO,
    "ppo": PPO,
    "dqn": DQN,
    "a2c": A2C,
}
POLICIES: Mapping[Policy, str | type[SitePolicy]] = {"mlp": "MlpPolicy", "sites": SitePolicy}


def before_opening(path: Path) -> str:
    """Return the line that is shown before a checkpoint is opened."""
    return f"Opening {path}, a checkpoint of SB3: it is a pickle and runs whatever code it holds; open only your own."


def new_model(config: AgentConfig, env: gym.Env) -> BaseAlgorithm:
    """Return an untrained agent.

    Raises:
        ConfigError: the algorithm refuses its hyper-parameters.
    """
    algorithm = ALGORITHMS[config.algorithm]
    settings = checked(algorithm, config.hyper_parameters)
    try:
        if config.policy == "sites":
            layout = placement_env(env).layout.arguments
            settings["policy_kwargs"] = {"layout": layout, **(settings.get("policy_kwargs") or {})}
        return algorithm(POLICIES[config.policy], env, seed=config.seed, device="cpu", **settings)
    except Exception as error:  # whatever a library does with settings that do not go together
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"hyper_parameters: {reason}; use arguments of {config.algorithm}.") from None
