"""Two hundred random steps in every environment and mode: observations, masks, rewards and infos are what they were."""

import hashlib

import numpy as np
import pytest

from cimenv.envs import (
    CompensationEnv,
    CompensationTabularEnv,
    CompensationWalkEnv,
    EvaluationBudget,
    TabularVectorEnv,
    fork,
)
from cimenv.tasks import TableEvaluator

STEPS = 200
TABLE = TableEvaluator("lenet5-fashion-mini")
MODES = {
    "default": {},
    "reset": {"feedback": "reset", "fit_log": True},
    "terminal": {"reward": "terminal", "max_sites": 7},
    "short": {"max_steps": 3, "invalid_penalty": 0.125},
}
KINDS = {
    "flat": lambda **arguments: CompensationEnv(evaluator=TABLE, **arguments),
    "walk": lambda **arguments: CompensationWalkEnv(evaluator=TABLE, **arguments),
    "table": lambda **arguments: CompensationTabularEnv(changes={"budget": {"weights": 0.02}}, **arguments),
    "budget": lambda **arguments: EvaluationBudget(CompensationTabularEnv(**arguments), 9),
    "arrays": lambda **arguments: TabularVectorEnv(3, **arguments),
}
DIGESTS = {
    "flat default": "5a9f4a5717c1f3e6",
    "flat reset": "2b6fd17c50d273e9",
    "flat terminal": "42f897294492a46f",
    "flat short": "8f94abdeb9c46568",
    "walk default": "2d98eb6138c1cf44",
    "walk reset": "0227d9368c470252",
    "walk terminal": "24f6a291b30fcfc2",
    "walk short": "10586147404af93c",
    "table default": "7ba633b396077a9c",
    "table reset": "97334c3e667218b4",
    "table terminal": "dbd6f48d122eb087",
    "table short": "5f7fa48b18a2d3b7",
    "budget default": "ff528f55aeb1ad52",
    "budget reset": "aef754113d8e3d6e",
    "budget terminal": "9a4047246a5b444e",
    "budget short": "315c51fe4289c377",
    "arrays default": "da51e18b5c7a6d39",
    "arrays reset": "22888b993751f0c7",
    "arrays terminal": "80325130a6caa4a7",
    "arrays short": "74b0e4735c3d68d9",
}


def feed(digest, value):
    """Add a value to a digest: floats to nine digits, observations to four, and no keys of tasks."""
    if isinstance(value, dict):
        for name in sorted(set(value) - {"task_key", "_task_key"}):
            digest.update(name.encode())
            feed(digest, value[name])
        return
    numbers = np.asarray(value)
    digest.update(str((numbers.dtype, numbers.shape)).encode())
    if numbers.dtype.kind == "f":
        numbers = np.round(numbers, 4 if numbers.dtype == np.float32 else 9) + 0.0  # no -0
    digest.update(numbers.tobytes())


def walk(env):
    """Return the digest of random actions, masked ones among them, in an environment and in forks of it."""
    digest, draws = hashlib.sha256(), np.random.default_rng(0)
    many = isinstance(env, TabularVectorEnv)
    for value in env.reset(seed=0):
        feed(digest, value)
    for step in range(STEPS):
        masks = np.atleast_2d(env.action_masks())
        feed(digest, masks)
        valid = [draws.choice(np.flatnonzero(mask)) for mask in masks]
        actions = np.where(draws.random(len(masks)) < 0.6, valid, draws.integers(masks.shape[1], size=len(masks)))
        shown = [env.step(actions if many else actions[0])]
        if step % 17 == 5 and not many and not shown[0][2]:
            shown.append(fork(env).step(np.int64(valid[0])))
        if not many and shown[0][2]:
            shown.append(env.reset())
        for values in shown:
            for value in values:
                feed(digest, value)
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_trajectories_are_what_they_were(kind, mode):
    assert walk(KINDS[kind](**MODES[mode])) == DIGESTS[f"{kind} {mode}"]
