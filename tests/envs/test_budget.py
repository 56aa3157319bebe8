"""The budget of evaluations: never overrun, and what it has paid for stays within reach."""

import copy
import itertools
import json

import numpy as np
import pytest

from cimenv.core.errors import BudgetError, ConfigError, EpisodeError, InvalidActionError
from cimenv.envs import CompensationEnv, CompensationTabularEnv, CompensationWalkEnv, EvaluationBudget
from cimenv.tasks import TableEvaluator

TABLE = TableEvaluator("lenet5-fashion-mini")
KINDS = {
    "flat": lambda **arguments: CompensationEnv(evaluator=TABLE, **arguments),
    "walk": lambda **arguments: CompensationWalkEnv(evaluator=TABLE, **arguments),
    "poor": lambda **arguments: CompensationTabularEnv(changes={"budget": {"weights": 0.02}}, **arguments),
    "padded": lambda **arguments: CompensationTabularEnv(max_sites=7, **arguments),
}


def ends_of(env):
    """Return every placement that an episode can end with from here by allowed actions: by trying them all."""
    found, seen, stack = set(), set(), [copy.deepcopy(env)]
    while stack:
        here = stack.pop()
        for action in np.flatnonzero(here.action_masks()):
            there = copy.deepcopy(here)
            done = there.step(np.int64(action))[2]
            state = (there.inner.episode.placement, there.inner.episode.steps)
            if done:
                found.add(there.inner.episode.placement)
            elif state not in seen:
                seen.add(state)
                stack.append(there)
    return found


@pytest.mark.parametrize("feedback", ["step", "reset"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("allowed", [1.0, 0.6])
def test_random_walks_never_overrun_and_end_on_what_is_paid_for(kind, feedback, allowed):
    """16 walks for every tiny budget; a share of the actions is drawn from all, masked ones among them."""
    for budget, steps in itertools.product((1, 2, 3, 7), (None, 2)):
        env = EvaluationBudget(KINDS[kind](feedback=feedback, max_steps=steps), budget)
        draws, ended = np.random.default_rng(budget), 0
        for episode in range(16):
            _, info = env.reset(seed=episode)
            done = False
            while not done:
                mask = info["action_mask"]
                assert mask.any() and np.array_equal(mask, env.action_masks())
                own = draws.random() < allowed
                action = int(draws.choice(np.flatnonzero(mask))) if own else int(draws.integers(len(mask)))
                _, _, done, _, info = env.step(np.int64(action))
                assert info["invalid_action"] == (not mask[action])
                assert info["run_evaluations"] == env.spent <= budget
            placement = tuple(int(o) for o in info["placement"] if o >= 0)
            assert info["evaluated"] and env.known[env.inner.episode.scenario.key, placement] == info["objective"]
            ended += 1
        assert ended == 16 and env.spent >= min(budget, 2)


@pytest.mark.parametrize("kind", ["flat", "walk", "poor"])
def test_every_known_placement_stays_within_reach(kind):
    """Exactly the placements that are paid for: found by trying every allowed action from the start on."""
    env = EvaluationBudget(KINDS[kind](feedback="reset"), 6)
    draws = np.random.default_rng(3)
    while env.spent < 6:
        _, info = env.reset(seed=0)
        done = False
        while not done:
            mask = info["action_mask"].copy()
            mask[0] = mask[1:].sum() == 0 or kind == "walk"
            _, _, done, _, info = env.step(np.int64(draws.choice(np.flatnonzero(mask))))
    env.reset(seed=0)
    assert ends_of(env) == {placement for _, placement in env.known} and env.spent == 6
    assert max(sum(o > 0 for o in placement) for placement in ends_of(env)) >= 3


def test_the_best_that_sixty_evaluations_found_is_reached():
    """J .41 and more was paid for; it is reached by a walk towards it, not the empty placement's J of 0."""
    env = EvaluationBudget(KINDS["flat"](feedback="reset"), 60)
    draws = np.random.default_rng(0)
    while env.spent < 60:
        _, info = env.reset(seed=0)
        done = False
        while not done:
            _, _, done, _, info = env.step(np.int64(draws.choice(np.flatnonzero(info["action_mask"]))))
    (_, best), paid = max(env.known.items(), key=lambda item: item[1])
    assert paid > 0.41
    _, info = env.reset(seed=0)
    for site in np.flatnonzero(best):
        action = 1 + 3 * int(site) + best[site] - 1
        assert env.action_masks()[action]
        _, reward, done, _, info = env.step(np.int64(action))
    if not done:
        assert env.action_masks()[0]
        _, reward, _, _, info = env.step(np.int64(0))
    assert reward == info["objective"] == paid and env.spent == 60


def test_stop_is_masked_on_an_unpaid_placement_only():
    env = EvaluationBudget(KINDS["flat"](feedback="reset"), 2)
    env.reset(seed=0)
    for action in (1, 4, 0):
        _, _, done, _, _ = env.step(np.int64(action))  # (1, 1, 0, 0, 0) is the second evaluation
    assert done and env.spent == 2
    _, info = env.reset(seed=0)
    assert np.flatnonzero(info["action_mask"]).tolist() == [0, 1, 4]
    _, _, _, _, info = env.step(np.int64(1))
    assert np.flatnonzero(info["action_mask"]).tolist() == [4]
    _, reward, done, _, info = env.step(np.int64(0))  # masked: a no-op
    assert info["invalid_action"] and not done and reward == -0.05 and info["placement"].tolist() == [1, 0, 0, 0, 0]


def test_standing_still_until_the_step_limit_goes_back_to_what_is_paid_for():
    env = EvaluationBudget(KINDS["flat"](feedback="reset", max_steps=3), 2)
    env.reset(seed=0)
    for action in (1, 4, 0):
        env.step(np.int64(action))
    env.reset(seed=0)
    env.step(np.int64(1))
    _, _, done, _, info = env.step(np.int64(9))  # one step is left, enough for the block at the second site
    assert not done and info["placement"].tolist() == [1, 0, 0, 0, 0]
    _, reward, done, _, info = env.step(np.int64(9))
    assert done and info["placement"].tolist() == [0] * 5 and reward == pytest.approx(-0.05) and env.spent == 2


@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_on_one_account_never_overrun_it(kind):
    """Four episodes under way at once; whoever comes too late goes back to what is paid for."""
    known, draws = {}, np.random.default_rng(0)
    envs = [EvaluationBudget(KINDS[kind](feedback="reset"), 5, known) for _ in range(4)]
    infos = [env.reset(seed=0)[1] for env in envs]
    ended = 0
    for _ in range(80):
        for k, env in enumerate(envs):
            mask = env.action_masks()
            assert mask.any()
            _, _, done, _, infos[k] = env.step(np.int64(draws.choice(np.flatnonzero(mask))))
            assert len(known) <= 5
            if done:
                assert infos[k]["evaluated"]
                infos[k], ended = env.reset()[1], ended + 1
    assert len(known) == 5 and ended > 40


def test_a_reset_never_overruns_either():
    def halved(task, generator):
        return task.with_changes(budget={"weights": float(generator.integers(1, 10**6)) / 10**6})

    env = EvaluationBudget(CompensationEnv("toy-4site", reset_hooks=[halved], evaluator=TABLE), 1)
    env.known["another task", (0,) * 5] = 0.0
    with pytest.raises(BudgetError, match="No evaluation is left for the task that the reset hooks drew; raise"):
        env.reset(seed=0)
    assert env.spent == 1 and env.inner.episode is None


def test_an_interrupted_walk_goes_back_to_the_same_placement():
    first, second = (EvaluationBudget(KINDS["flat"](feedback="reset", max_steps=3), 2) for _ in range(2))
    first.reset(seed=0)
    for action in (1, 4, 0):
        first.step(np.int64(action))
    first.reset(seed=0)
    first.step(np.int64(1))
    second.reset(seed=9)
    second.restore(json.loads(json.dumps(first.state())))
    for env in (first, second):
        env.step(np.int64(9))
        assert env.step(np.int64(9))[4]["placement"].tolist() == [0] * 5


def test_what_is_no_budget_is_one_sentence():
    env = KINDS["flat"]()
    for wrong, words in (
        ({"evaluations": 0}, "evaluations: got 0; give an int of at least 1"),
        ({"evaluations": True}, "evaluations: got True"),
        ({"evaluations": float("nan")}, "evaluations: got nan"),
        ({"evaluations": 3, "known": [1]}, r"known: got \[1\]; give a dictionary or None"),
    ):
        with pytest.raises(ConfigError, match=words):
            EvaluationBudget(env, **wrong)
    for wrong in (3, None, object):
        with pytest.raises(ConfigError, match=r"env: got .*; give a placement environment"):
            EvaluationBudget(wrong, 3)
    budget = EvaluationBudget(env, 3)
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        budget.step(np.int64(0))
    budget.reset(seed=0)
    for action in (True, 1.0, 99, np.array([1]), None):
        with pytest.raises(InvalidActionError, match="outside"):
            budget.step(action)
