"""What the environments' docstrings say, claim by claim."""

import inspect

import gymnasium as gym
import numpy as np
import pytest

from cimenv.core.errors import EpisodeError, InvalidActionError
from cimenv.envs import CompensationEnv, CompensationTabularEnv, CompensationWalkEnv, TabularVectorEnv
from cimenv.tasks import Objective, TableEvaluator

TABLE = TableEvaluator("lenet5-fashion-mini")
CLASSES = (CompensationEnv, CompensationWalkEnv, CompensationTabularEnv)
SECTIONS = ("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End")
SECTIONS += ("Information", "Arguments", "Version History")


def made(kind=CompensationEnv, **arguments):
    return kind(**(arguments if kind is CompensationTabularEnv else {"evaluator": TABLE, **arguments}))


@pytest.mark.parametrize("kind", CLASSES)
def test_sections_and_words(kind):
    text = kind.__doc__
    assert [line[3:] for line in map(str.strip, text.splitlines()) if line.startswith("## ")] == list(SECTIONS)
    for gone in ("always valid", "always raises", "thousand times"):
        assert gone not in text


@pytest.mark.parametrize("kind", CLASSES)
def test_constructors_list_their_arguments(kind):
    """`help` shows every argument with its type and default, and the page of the class says what it is."""
    said = kind.__doc__ if kind is not CompensationWalkEnv else CompensationEnv.__doc__
    listed = said.partition("## Arguments")[2]
    for name, one in inspect.signature(kind).parameters.items():
        assert one.annotation is not one.empty and one.kind is not one.VAR_POSITIONAL
        assert f"`{name}" in listed or one.kind is one.VAR_KEYWORD, name
    with pytest.raises(TypeError, match=r"unexpected .*argument 'mistyped'"):
        kind(mistyped=1)


@pytest.mark.parametrize("arguments", [{}, {"feedback": "reset"}, {"reward": "terminal"}, {"max_steps": 3}])
def test_stop_is_valid_throughout_an_episode(arguments):
    env, draws = made(**arguments), np.random.default_rng(0)
    for episode in range(5):
        _, info = env.reset(seed=episode)
        done = False
        while not done:
            assert info["action_mask"][0] == 1 and env.action_masks()[0]
            _, _, done, cut, info = env.step(int(1 + draws.integers(15)))
            assert cut is False
    env.reset(seed=0)
    assert env.step(0)[2] is True


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_no_integer_of_the_space_raises_and_before_and_after_an_episode_everything_does(kind):
    env = made(kind)
    wrong = (True, 1.5, -1, int(env.action_space.n), None, "1", np.array([1]))
    for action in (0, *wrong):
        with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
            env.step(action)
    env.reset(seed=0)
    for action in wrong:
        with pytest.raises(InvalidActionError, match="is outside Discrete"):
            env.step(action)
    done = False
    while not done:
        done = env.step(0)[2]
    for action in (0, *wrong):
        with pytest.raises(EpisodeError):
            env.step(action)


def test_actions_place_the_option_at_the_site_that_their_number_says():
    env = made()
    for action, (site, option) in enumerate(env.action_names(), start=1):
        env.reset(seed=0)
        s, o = divmod(action - 1, env.layout.options)
        placed = env.step(action)[4]["placement"]
        assert placed.tolist() == [o + 1 if k == s else 0 for k in range(5)]
        assert site == env.block_options.sites[s].name and option == env.block_options.per_site[s][o].label
    assert env.action_space == gym.spaces.Discrete(1 + env.max_sites * env.layout.options)


def test_masked_are_filled_sites_padding_the_budget_and_sites_that_are_no_candidates():
    env = CompensationTabularEnv(max_sites=7, changes={"budget": {"weights": 0.02}})
    _, info = env.reset(seed=0)
    assert not info["action_mask"][1 + 5 * 3 :].any()
    for action in range(1, 16):
        site, option = divmod(action - 1, 3)
        alone = tuple(option + 1 if k == site else 0 for k in range(5))
        assert info["action_mask"][action] == env.table.space.feasible(alone), alone
    assert 0 < info["action_mask"][1:].sum() < 15
    first = int(np.flatnonzero(info["action_mask"])[1])
    site = (first - 1) // 3
    info = env.step(first)[4]
    assert not info["action_mask"][1 + 3 * site : 4 + 3 * site].any()
    assert info["action_mask"].dtype == np.int8 and env.action_masks().dtype == bool


def test_a_masked_action_changes_nothing_costs_the_penalty_and_counts_as_a_step():
    env = made(invalid_penalty=0.125, max_steps=3)
    env.reset(seed=0)
    before = env.step(1)[4]
    _, reward, done, _, after = env.step(2)
    assert (reward, done, env.episode.steps) == (-0.125, False, 2) and after["invalid_action"] is True
    assert after["placement"].tolist() == before["placement"].tolist()
    assert after["objective"] == before["objective"] and after["evaluations"] == before["evaluations"] == 2
    strict = made(invalid_action="raise")
    strict.reset(seed=0)
    strict.step(1)
    with pytest.raises(InvalidActionError, match="action 2 is masked now"):
        strict.step(2)


def test_the_walk_places_nothing_without_a_penalty_and_marks_its_site():
    env = made(CompensationWalkEnv, invalid_penalty=0.5)
    env.evaluator.space.candidates  # noqa: B018 - laid out once
    seen, _ = env.reset(seed=0)
    marks = [env.layout.names.index(f"site{s}.current") for s in range(5)]
    for site in range(5):
        assert [seen[k] for k in marks] == [float(s == site) for s in range(5)]
        seen, reward, done, _, _ = env.step(0)
        assert reward == 0.0 and done == (site == 4)
    assert env.max_steps == 5 and env.action_space == gym.spaces.Discrete(4)
    poor = CompensationWalkEnv(evaluator=TableEvaluator("lenet5-fashion-mini", {"budget": {"weights": 0.0}}))
    poor.reset(seed=0)
    _, reward, _, _, info = poor.step(3)
    assert reward == 0.0 and info["invalid_action"] and info["placement"].tolist() == [0] * 5


@pytest.mark.parametrize("kind", CLASSES)
def test_rewards_follow_from_accuracies_and_costs(kind):
    """J = score - cost_weight * cost, score = (acc - acc_none) / max(acc_ref - acc_none, .05), from infos alone."""
    env = made(kind)
    _, info = env.reset(seed=0)
    none, total, done = info["accuracy"], 0.0, False
    for action in (1, 2, 3, 3, 1) if kind is CompensationWalkEnv else (1, 5, 9, 0):
        _, reward, done, _, info = env.step(action)
        total += reward
    score = (info["accuracy"] - none) / max(info["reference_accuracy"] - none, 0.05)
    weights = env.base_task.cost_weights
    assert info["cost"]["scalar"] == pytest.approx(sum(weights[t] * info["cost"][t] for t in weights), abs=1e-12)
    assert info["objective"] == pytest.approx(score - env.base_task.cost_weight * info["cost"]["scalar"], abs=1e-12)
    assert done and total == pytest.approx(info["objective"], abs=1e-12)
    assert info["is_success"] == (info["accuracy"] >= 0.95 * info["reference_accuracy"])
    assert info["task_key"] == env.base_task.key and info["evaluations"] == 1 + sum(o > 0 for o in info["placement"])
    assert {"energy_pj_low", "energy_pj_high", "area_mm2_low", "area_mm2_high"} < info["cost"].keys()


@pytest.mark.parametrize("kind", CLASSES)
def test_observations_lie_in_the_box_and_have_names(kind):
    env, draws = made(kind, fit_log=True, max_sites=6), np.random.default_rng(1)
    seen, _ = env.reset(seed=0)
    assert env.observation_space == gym.spaces.Box(-5, 5, (len(env.layout.names),), np.float32)
    done = False
    while not done:
        assert seen.dtype == np.float32 and env.observation_space.contains(seen)
        seen, _, done, _, _ = env.step(int(draws.integers(env.action_space.n)))
    assert env.max_steps == (5 if kind is CompensationWalkEnv else 11)


def test_reset_feedback_is_terminal_and_tells_no_evaluation_of_a_block():
    env = made(feedback="reset")
    seen, start = env.reset(seed=0)
    told = [k for k, name in enumerate(env.layout.names) if name.split(".")[-1] in ("error_mean", "snr", "score")]
    after, reward, _, _, info = env.step(1)
    assert reward == 0.0 and not info["evaluated"] and np.array_equal(seen[told], after[told])
    assert info["accuracy"] == start["accuracy"] and info["evaluations"] == 1
    after, reward, done, _, info = env.step(0)
    assert done and info["evaluated"] and reward == info["objective"] and np.array_equal(seen[told], after[told])


def test_the_arrays_hold_what_the_single_environment_does():
    many, one = TabularVectorEnv(3), CompensationTabularEnv()
    assert many.single_observation_space == one.observation_space
    assert many.action_space == gym.spaces.MultiDiscrete([16] * 3)
    (seen, infos), (alone, info) = many.reset(seed=0), one.reset(seed=0)
    assert all(np.array_equal(row, alone) for row in seen)
    assert {name for name in infos if not name.startswith("_")} == info.keys()


def test_the_toy_task_separates_its_best_placement(toy, toy_values):
    """Measured: the last layer digital, .10 of J above the second, with a paired standard error of .0044 on 8 chips."""
    best, second = sorted(toy_values, key=lambda p: -toy_values[p])[:2]
    chips = (toy.evaluate(best).accuracy - toy.evaluate(second).accuracy) / Objective.of(toy).gap
    assert best == (0, 0, 0, 2)
    assert toy_values[best] - toy_values[second] > max(0.05, 5 * chips.std(ddof=1) / len(chips) ** 0.5)
