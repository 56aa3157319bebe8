"""Reset hooks of the recipes against the worst case."""

import gymnasium as gym
import numpy as np
import pytest

from cimenv.envs.hooks import RecipeHook
from cimenv.tasks import load_task

TINY = {"epochs": 1, "judge_images": 20}


@pytest.mark.parametrize("name", ["gaussian", "trice", "a_trice", "adversarial", "sam"])
def test_a_hook_trains_for_the_bound_of_a_worst_case_task(name):
    draws = np.random.default_rng(0)
    task = load_task("toy-4site", ["statistic=worst_case", "worst_case.bound=0.07"])
    assert RecipeHook(name)(task, draws).recipe.bound == 0.07
    assert RecipeHook(name)(load_task("toy-4site"), draws).recipe.bound == 0.03  # the recipe's own
    assert RecipeHook(name)(task, draws).recipe.name == name


@pytest.mark.slow
def test_episodes_draw_among_trice_a_trice_and_lipschitz(cache, monkeypatch):
    """Three recipes, three trainings on first use, then none: counted where training happens."""
    from cimenv.training.recipe import Recipe
    from cimenv.training.trice import Trice

    fitted = []
    for kind in (Recipe, Trice):
        original = kind.fit

        def fit(self, *arguments, original=original):
            fitted.append(self.name)
            return original(self, *arguments)

        monkeypatch.setattr(kind, "fit", fit)
    small = {"trice": TINY, "a_trice": TINY, "lipschitz": {"epochs": 1}}

    class Small(RecipeHook):
        def __init__(self, name):
            super().__init__(name)
            self.recipe = type(self.recipe)(**small[name])

    task = load_task("toy-4site", ["statistic=worst_case", "images=50", "chips=2", "bank.steps=5", "recipe.epochs=1"])
    hooks = [Small(name) for name in small]
    env = gym.make("CiMCompensation-v0", task=task.model_dump(mode="json"), reset_hooks=hooks)
    accuracies, recipes = set(), []
    for seed in range(12):
        _, info = env.reset(seed=seed)
        recipes.append(env.unwrapped.episode.scenario.task.recipe.name)
        accuracies.add((recipes[-1], info["accuracy"]))
    assert set(recipes) == set(small) and len(accuracies) == 3
    assert sorted(set(fitted)) == ["a_trice", "lipschitz", "standard", "trice"]
    count = len(fitted)
    env.reset(seed=0)
    assert len(fitted) == count
