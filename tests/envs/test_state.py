"""An episode described as JSON goes on exactly where it was, in another environment and another process's memory."""

import json

import gymnasium as gym
import numpy as np
import pytest

from cimenv.envs import EvaluationBudget


def walk_on(env, info, generator):
    """Return everything that random valid actions show until two episodes have ended."""
    trace, ended = [], 0
    while ended < 2:
        action = int(generator.choice(np.flatnonzero(info["action_mask"])))
        observation, reward, done, _, info = env.step(action)
        trace.append((observation.tobytes(), reward, done, info["placement"].tobytes(), info["run_evaluations"]))
        if done:
            ended += 1
            observation, info = env.reset()
            trace.append((observation.tobytes(), info["evaluations"]))
    return trace, env.unwrapped.np_random.integers(2**60)


@pytest.mark.parametrize("feedback", ["step", "reset"])
@pytest.mark.parametrize("name", ["CiMCompensation-v0", "CiMCompensationWalk-v0"])
def test_a_restored_episode_goes_on_the_same(name, feedback, toy):
    first, second = (EvaluationBudget(gym.make(name, evaluator=toy, feedback=feedback), 12, known={}) for _ in range(2))
    _, info = first.reset(seed=5)
    generator = np.random.default_rng(1)
    for _ in range(9):  # beyond the end of an episode, into the middle of the next
        action = int(generator.choice(np.flatnonzero(info["action_mask"])))
        _, _, done, _, info = first.step(action)
        if done:
            _, info = first.reset()
    text = json.dumps(first.state(), allow_nan=False)
    second.reset(seed=77)
    saved = json.loads(text)
    saved["env"]["episode"]["blocked"] = False  # as versions before wrote
    second.restore(saved)
    assert second.known == first.known and second.spent == first.spent
    assert json.dumps(second.state()) == text
    restored = {**info, "action_mask": second.action_masks().astype(np.int8)}
    assert np.array_equal(restored["action_mask"], info["action_mask"])
    a = walk_on(first, info, np.random.default_rng(2))
    assert a == walk_on(second, restored, np.random.default_rng(2))


def test_an_unstarted_environment_keeps_its_generator_and_a_held_recipe(toy):
    env, twin = (gym.make("CiMCompensation-v0", evaluator=toy).unwrapped for _ in range(2))
    assert env.state()["episode"] is None
    env.restore({**env.state(), "held": "lipschitz"})
    expected = env.np_random.integers(2**60, size=3)
    env.np_random.integers(10)
    twin.restore(json.loads(json.dumps(env.state())))
    assert twin.state() == env.state() and twin.state()["held"] == "lipschitz"
    later = env.np_random.integers(2**60, size=3)
    assert (twin.np_random.integers(2**60, size=3) == later).all() and (later != expected).any()
