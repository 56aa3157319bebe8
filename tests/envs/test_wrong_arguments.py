"""Arguments and hooks of environments that are none."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from cimenv.core.errors import ConfigError
from cimenv.envs import CompensationEnv
from cimenv.tasks import TableEvaluator

TABLE = TableEvaluator("lenet5-fashion-mini")
NAME, COUNT = "CiMCompensationTabular-v0", 5
ACTIONS = 16
MODES = list(AutoresetMode)


def test_plain_environments_check_their_arguments_too():
    for wrong, words in (
        ({"max_sites": True}, "max_sites: got True"),
        ({"max_sites": 10**9}, "max_sites: got 1000000000; give an int of at most 100,000"),
        ({"max_steps": float("nan")}, "max_steps: got nan"),
        ({"max_steps": 10**30}, "max_steps: got 10{30}; give an int of at most 1,000,000"),
        ({"max_steps": False}, "max_steps: got False"),
        ({"render_mode": 3}, "Unknown render_mode '3'; known: ansi, human, rgb_array"),
        ({"render_mode": np.array([1, 2])}, "Unknown render_mode"),
        ({"feedback": ["step"]}, "Unknown feedback"),
        ({"reward": None}, "Unknown reward 'None'; known: dense, terminal"),
        ({"reward": "sparse", "feedback": "reset"}, "Unknown reward 'sparse'"),
        ({"invalid_action": True}, "Unknown invalid_action 'True'"),
        ({"invalid_penalty": True}, "invalid_penalty: got True"),
        ({"invalid_penalty": "a"}, "invalid_penalty: got 'a'"),
        ({"invalid_penalty": float("inf")}, "invalid_penalty: got inf"),
        ({"fit_log": "yes"}, "fit_log: got 'yes'; give True or False"),
        ({"fit_log": 1}, "fit_log: got 1"),
        ({"reset_hooks": True}, "reset_hooks: got True; give a list of names"),
        ({"reset_hooks": None}, "reset_hooks: got None"),
        ({"reset_hooks": {"noise": 1}}, "reset_hooks: got {'noise': 1}; give a list"),
        ({"reset_hooks": [[1]]}, r"reset_hooks: got \[1\]; give names"),
        ({"store": 3}, "store: got 3; give the path of a folder, or a Store"),
        ({"evaluator": 3}, "evaluator: got 3; give one of cimenv.tasks"),
        ({"evaluator": CompensationEnv(evaluator=TABLE)}, "evaluator: got "),
    ):
        with pytest.raises(ConfigError, match=words) as told:
            CompensationEnv(**{"evaluator": TABLE, **wrong})
        assert "\n" not in str(told.value)
    env = CompensationEnv(evaluator=TABLE)
    for wrong, words in (
        ({"seed": "a"}, "seed: got 'a'"),
        ({"seed": True}, "seed: got True"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": [1]}, r"seed: got \[1\]"),
        ({"options": [1]}, r"reset options: got \[1\]; give a mapping or None"),
        ({"options": True}, "reset options: got True"),
        ({"options": {1: 2, "a": 3}}, "reset options: got unknown key 1; known: recipe"),
        ({"options": {"recipe": 3}}, "recipe: got 3; give the name of a recipe"),
        ({"options": {"recipe": ["noise"]}}, r"recipe: got \['noise'\]"),
        ({"options": {"recipe": "nois"}}, "Unknown recipe 'nois'"),
    ):
        with pytest.raises(ConfigError, match=words):
            env.reset(**wrong)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (lambda task, generator: 3, "returned a int; return the episode's task"),
        (lambda task, generator: task.model_dump(), "returned a dict"),
        (lambda: None, "fails: TypeError: .*; correct the function"),
        (lambda task, generator: 1 / 0, "fails: ZeroDivisionError: division by zero .*; correct the function"),
        (lambda task, generator: task.with_changes(sigma=3), "unknown key"),
        (lambda task, generator: task.with_changes(backbone="mlp4"), "changed the sites or options"),
        (lambda task, generator: task.model_copy(update={"options": {}}), "changed the sites or options"),
    ],
)
def test_hooks_that_are_none(hook, words):
    env = CompensationEnv(evaluator=TABLE, reset_hooks=[hook])
    with pytest.raises(ConfigError, match=words) as told:
        env.reset(seed=0)
    assert "\n" not in str(told.value) and env.episode is None
