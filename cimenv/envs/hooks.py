"""Reset hooks: what an episode changes in the task before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from cimenv.core.config import where
from cimenv.core.errors import CimenvError, ConfigError, brief
from cimenv.tasks.task import Task
from cimenv.training import recipe_named


class ResetHook(Protocol):
    """Returns the episode's task: another recipe, training seed, sigma or budget, never other spaces."""

    def __call__(self, task: Task, generator: np.random.Generator) -> Task:
        """Return the episode's task."""


class RecipeHook:
    """Trains the backbone by a recipe on first use, then loads it.

    A recipe against the worst case is trained for the task's bound, if the task's statistic is the worst case.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise ConfigError(f"recipe: got {brief(name)}; give the name of a recipe.")
        self.recipe = recipe_named(name)

    def __call__(self, task: Task, generator: np.random.Generator) -> Task:
        """Return the task with this recipe."""
        del generator
        recipe = self.recipe.against(task.worst_case.bound) if task.statistic == "worst_case" else self.recipe
        return task.model_copy(update={"recipe": recipe})


def as_hooks(hooks: Sequence[str | ResetHook]) -> tuple[ResetHook, ...]:
    """Return hooks; a string is the name of a recipe.

    Raises:
        UnknownNameError: no such recipe.
        ConfigError: no list, or a hook is neither a name nor a function.
    """
    if isinstance(hooks, str):
        hooks = [hooks]
    if not isinstance(hooks, list | tuple):
        raise ConfigError(f"reset_hooks: got {brief(hooks)}; give a list of names of recipes, or of functions.")
    for hook in hooks:
        if not (isinstance(hook, str) or callable(hook)):
            raise ConfigError(
                f"reset_hooks: got {brief(hook)}; give names of recipes, or functions of task and generator."
            )
    return tuple(RecipeHook(hook) if isinstance(hook, str) else hook for hook in hooks)


def apply_one(hooks: Sequence[ResetHook], task: Task, generator: np.random.Generator) -> Task:
    """Draw one hook and return the task it makes.

    Raises:
        ConfigError: the hook failed, or returned no task, or one with other sites or options.
    """
    if not hooks:
        return task
    hook = hooks[int(generator.integers(len(hooks)))]
    try:
        changed = hook(task, generator)
    except CimenvError:
        raise
    except Exception as error:  # whatever a user's function does
        raise ConfigError(f"reset_hooks: {brief(hook)} fails: {where(error)}; correct the function.") from error
    if not isinstance(changed, Task):
        raise ConfigError(f"reset_hooks: {brief(hook)} returned a {type(changed).__name__}; return the episode's task.")
    if changed.sites() != task.sites() or changed.options != task.options:
        raise ConfigError(
            f"reset_hooks: {brief(hook)} changed the sites or options of the task; change recipe, training_seed, "
            "sigma or budget only, since the spaces must stay."
        )
    return changed
