"""An interrupted episode: what it is as JSON values, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cimenv.envs.hooks import RecipeHook
from cimenv.tasks.evaluators.ledger import Ledger
from cimenv.tasks.task import Task

if TYPE_CHECKING:
    from cimenv.envs.base import PlacementEnv


def episode_state(env: PlacementEnv) -> dict[str, Any]:
    """Return an episode as JSON values; evaluations are named by their placements."""
    generator = env._np_random
    state: dict[str, Any] = {
        "generator": generator.bit_generator.state if generator is not None else None,
        "generator_seed": env._np_random_seed,
        "held": env._held.recipe.name if env._held is not None else None,
        "episode": None,
    }
    if env._started:
        state["episode"] = {
            "task": env.task.model_dump(mode="json"),
            "placement": list(env.placement),
            "steps": env.steps,
            "invalid_actions": env.invalid_actions,
            "ended": env._ended,
            "blocked": env.blocked,
            "requested": [list(placement) for placement in env.ledger.requested],
            "evaluated": list(env._evaluation.placement),
        }
    return state


def restore_episode(env: PlacementEnv, state: Mapping[str, Any]) -> None:
    """Let an environment go on with the episode that `episode_state` described."""
    if state["generator"] is not None:
        env._np_random = np.random.default_rng()
        env._np_random.bit_generator.state = state["generator"]
    env._np_random_seed = state["generator_seed"]
    env._held = RecipeHook(state["held"]) if state["held"] is not None else None
    episode = state["episode"]
    env._started = episode is not None
    if episode is None:
        return
    same = episode["task"] == env.base_task.model_dump(mode="json")
    env.task = env.base_task if same else Task(**episode["task"])
    env.task_key = env.task.key
    env.objective = env._objective(env.task)
    env.ledger = Ledger(env._evaluator(env.task))
    env.ledger.evaluate_many([tuple(placement) for placement in episode["requested"]])
    env._none = env.ledger.evaluate(env.objective.space.empty())
    env._evaluation = env.ledger.evaluate(tuple(episode["evaluated"]))
    env.placement = tuple(episode["placement"])
    env.steps, env.invalid_actions = episode["steps"], episode["invalid_actions"]
    env._ended, env.blocked = episode["ended"], episode["blocked"]
