"""The environment of a run: gym.make, the budget of distinct evaluations, SB3's monitor."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor

import cimenv  # noqa: F401 - registers the environments
from agents.config import AgentConfig
from cimenv.compensation.options import Placement
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.envs import EvaluationBudget
from cimenv.envs.base import PlacementEnv
from cimenv.tasks import Evaluator, Task, load_task

DEFAULT_TASK = "lenet5-fashion-mini"
Known = dict[tuple[str, Placement], float]


def make_env(config: AgentConfig, evaluator: Evaluator | None = None) -> Monitor[Any, Any]:
    """Return the environment that an agent is trained in."""
    return Monitor(_budgeted(config, dict(config.env_arguments), config.evaluations, evaluator, None))


def task_of(config: AgentConfig) -> Task:
    """Return the task that a configuration names, its overrides laid over it; nothing is imported or trained."""
    return load_task(config.env_arguments.get("task", DEFAULT_TASK), list(config.task_overrides))


def judged_env(config: AgentConfig, evaluator: Evaluator | None, known: Known) -> EvaluationBudget:
    """Return the environment that a policy is judged in: the task without reset hooks, on the account of the run.

    A policy that was trained with hooks may evaluate what it likes there: its account was spent on other tasks.
    """
    arguments = {name: value for name, value in config.env_arguments.items() if name != "reset_hooks"}
    hooked = bool(config.env_arguments.get("reset_hooks"))
    budget = 10**9 if hooked else config.evaluations
    return _budgeted(config, arguments, budget, evaluator, known)


def placement_env(env: gym.Env[Any, Any]) -> PlacementEnv:
    """Return the placement environment under its wrappers."""
    inner = env.unwrapped
    assert isinstance(inner, PlacementEnv)
    return inner


def _budgeted(
    config: AgentConfig,
    arguments: dict[str, Any],
    evaluations: int,
    evaluator: Evaluator | None,
    known: Known | None,
) -> EvaluationBudget:
    if evaluator is not None:
        arguments["evaluator"] = evaluator
    elif config.task_overrides:
        arguments["task"] = task_of(config).model_dump(mode="json")
    try:
        env = gym.make(config.env, **arguments)
    except CimenvError:
        raise
    except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
        reason = " ".join(str(error).split()).split(" was raised from ")[0]  # what follows is the whole task
        raise ConfigError(f"env_arguments: {reason}; use arguments of {config.env}.") from None
    return EvaluationBudget(env, evaluations, known)
