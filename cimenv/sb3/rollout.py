"""An episode of a policy that always takes its favourite action."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from cimenv.compensation.options import Placement


def is_maskable(policy: BasePolicy) -> bool:
    """Return whether a policy takes action masks (sb3-contrib's MaskablePPO)."""
    return any(base.__name__ == "MaskableActorCriticPolicy" for base in type(policy).__mro__)


def deterministic_rollout(model: BaseAlgorithm, env: gym.Env[Any, Any]) -> list[dict[str, Any]]:
    """Return the infos of one episode, that of `reset` first, in which the policy takes its favourite actions."""
    masked = is_maskable(model.policy)
    observation, info = env.reset()
    infos, done = [info], False
    while not done:
        masks: dict[str, Any] = {"action_masks": info["action_mask"].astype(bool)} if masked else {}
        action, _ = model.predict(observation, deterministic=True, **masks)
        observation, _, terminated, truncated, info = env.step(np.int64(action))
        infos.append(info)
        done = terminated or truncated
    return infos


def placement_of(info: dict[str, Any]) -> Placement:
    """Return the placement in an info, without padding."""
    return tuple(int(option) for option in info["placement"] if option >= 0)
