"""Branch an episode: copy an environment with its whole stack of wrappers."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import gymnasium as gym

AnyEnv = TypeVar("AnyEnv", bound=gym.Env[Any, Any])


def fork(env: AnyEnv) -> AnyEnv:
    """Return an independent copy of `env` in its present state, wrappers included; evaluations are shared."""
    return copy.deepcopy(env)
