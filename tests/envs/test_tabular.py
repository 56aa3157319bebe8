"""The tabular environments: one, many as arrays, and the shipped table behind them."""

import math
import statistics
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError, InvalidActionError, UnknownNameError
from cimenv.core.store import Store
from cimenv.envs import CompensationEnv, CompensationTabularEnv, TabularVectorEnv
from cimenv.envs.scenario import Scenario
from cimenv.sb3.tokens import layout_of
from cimenv.tasks import MonteCarloEvaluator, Objective, shipped_tables
from cimenv.tasks.evaluators.table import TableEvaluator, load_table
from cimenv.tasks.problem import SHIPPED
from cimenv.tasks.requests import Compute

NAME = "CiMCompensationTabular-v0"
BUNDLED = [name for name in shipped_tables() if load_table(name).header.task.data == "fashion-mini"]


@pytest.fixture(scope="module")
def table(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "toy.csv"
    enumerate_placements(toy.task, path, store=toy.store, compute=Compute(1))
    return str(path)


@pytest.fixture(scope="module")
def capped(toy, tmp_path_factory):
    """A table with a budget: some actions are never allowed."""
    path = tmp_path_factory.mktemp("table") / "capped.csv"
    enumerate_placements(toy.task.with_changes(budget={"weights": 0.02}), path, store=toy.store, compute=Compute(1))
    return str(path)


def test_checkers(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(NAME, table=table, render_mode="rgb_array", disable_env_checker=True).unwrapped)
        sb3_check_env(gym.make(NAME, table=table, render_mode="rgb_array"))


@pytest.mark.parametrize("arguments", [{}, {"feedback": "reset"}, {"reward": "terminal"}, {"max_sites": 6}])
def test_trajectories_are_those_of_the_real_environment(toy, table, arguments):
    """Rewards and infos to the last bit; observations to 1e-5, since errors are kept to six digits."""
    real, tabular = CompensationEnv(evaluator=toy, **arguments), CompensationTabularEnv(table, **arguments)
    assert real.observation_space == tabular.observation_space and real.action_space == tabular.action_space
    for seed in range(6):
        draws = np.random.default_rng(seed)
        (seen, info), (seen_here, info_here) = real.reset(seed=seed), tabular.reset(seed=seed)
        done = False
        while True:
            assert np.abs(seen - seen_here).max() <= 1e-5 and info.keys() < info_here.keys()
            for name, value in info.items():
                assert np.array_equal(value, info_here[name]) if name != "cost" else value == info_here[name], name
            if done:
                break
            action = int(draws.integers(real.action_space.n))  # masked ones too
            seen, reward, done, _, info = real.step(np.int64(action))
            seen_here, reward_here, done_here, _, info_here = tabular.step(np.int64(action))
            assert (reward, done) == (reward_here, done_here)


def test_optimum_and_regret(toy_values, table):
    env = gym.make(NAME, table=table)
    best = max(toy_values, key=toy_values.get)
    _, info = env.reset(seed=0)
    assert info["optimum"] == pytest.approx(max(toy_values.values()), abs=1e-12)
    mean = np.mean(list(toy_values.values()))
    assert info["regret"] == pytest.approx(info["optimum"] / (info["optimum"] - mean))  # J of no block is 0
    for site, option in enumerate(best):
        if option:
            _, _, _, _, info = env.step(1 + 2 * site + option - 1)
    assert info["regret"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    "arguments", [{}, {"feedback": "reset"}, {"reward": "terminal"}, {"max_sites": 6, "max_steps": 3}]
)
@pytest.mark.parametrize("which", ["table", "capped"])
def test_many_are_as_many_single_ones(which, arguments, request):
    """Against gymnasium's SyncVectorEnv, 60 steps of 5 environments with masked actions among them."""
    table = request.getfixturevalue(which)
    slow = gym.make_vec(NAME, num_envs=5, vectorization_mode="sync", table=table, **arguments)
    fast = gym.make_vec(NAME, num_envs=5, table=table, **arguments)
    assert isinstance(fast, TabularVectorEnv) and fast.metadata["autoreset_mode"] == slow.metadata["autoreset_mode"]
    assert fast.observation_space == slow.observation_space and fast.action_space == slow.action_space
    draws, episodes = np.random.default_rng(0), 0
    (a, info_a), (b, info_b) = slow.reset(seed=3), fast.reset(seed=3)
    for _ in range(60):
        assert np.array_equal(a, b)
        same_infos(info_a, info_b)
        actions = draws.integers(fast.single_action_space.n, size=5)
        actions[draws.random(5) < 0.7] = 1 + draws.integers(fast.single_action_space.n - 1)
        a, reward_a, ended_a, cut_a, info_a = slow.step(actions)
        b, reward_b, ended_b, cut_b, info_b = fast.step(actions)
        assert np.array_equal(ended_a, ended_b) and np.array_equal(cut_a, cut_b)
        assert reward_a == pytest.approx(reward_b, abs=1e-12)
        episodes += ended_b.sum()
    assert episodes > 20


def same_infos(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        if isinstance(value, dict):
            same_infos(value, b[name])
        else:
            assert np.array_equal(value, b[name]), name


def test_reused_buffers_hold_the_same(table):
    new, reused = TabularVectorEnv(7, table), TabularVectorEnv(7, table, copy=False, infos="mask")
    new.reset(seed=0)
    reused.reset(seed=0)
    new.action_space.seed(0)
    for _ in range(30):
        actions = new.action_space.sample()
        a, b = new.step(actions), reused.step(actions)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[4]["action_mask"], b[4]["action_mask"])
        assert b[4].keys() == {"action_mask", "_action_mask"}
        assert np.array_equal(reused.action_masks(), b[4]["action_mask"].astype(bool))


def test_bad_arguments(table):
    with pytest.raises(ConfigError, match="num_envs: got 0"):
        TabularVectorEnv(0, table)
    with pytest.raises(UnknownNameError, match="Unknown infos 'none'; known: all, mask"):
        TabularVectorEnv(1, table, infos="none")
    with pytest.raises(UnknownNameError, match=r"Unknown table 'lenet5-fasion-mini'.*Did you mean"):
        gym.make(NAME, table="lenet5-fasion-mini")
    with pytest.raises(ConfigError, match="reset_hooks: a table fixes it"):
        gym.make(NAME, table=table, reset_hooks=["noise"])
    env = TabularVectorEnv(2, table, invalid_action="raise")
    env.reset()
    with pytest.raises(InvalidActionError, match="outside"):
        env.step(np.array([0, 99]))
    env.step(np.array([1, 1]))
    with pytest.raises(InvalidActionError, match="masked action"):
        env.step(np.array([1, 2]))
    for made in (env, gym.make(NAME, table=table)):
        with pytest.raises(ConfigError, match="one trained network"):
            made.reset(options={"recipe": "noise"})


@pytest.mark.parametrize("name", shipped_tables())
def test_shipped_tables_follow_from_their_counts(name):
    found = load_table(name)
    for row in found.rows[:: max(1, len(found.rows) // 64)]:
        assert found.disagreements(row) == {}


COMPUTED = [pytest.param(name, marks=[pytest.mark.slow] * (k >= 2)) for k, name in enumerate(BUNDLED)]


@pytest.mark.parametrize("name", COMPUTED)
def test_tables_are_what_this_machine_computes(name, tmp_path):
    """From the shipped weights, nothing trained: rows across the table, within .1 % of a chip's images."""
    found, store = load_table(name), Store(tmp_path, layers=(SHIPPED,))
    evaluator = MonteCarloEvaluator(found.header.task, store)
    assert evaluator.problem.weights_digest == found.header.weights_digest
    chips = found.header.chips if name == "lenet5-fashion-mini" else 2
    rows = [found.rows[0], found.best, found.rows[2 * len(found.rows) // 3]]
    again = evaluator.evaluate_many([row.placement for row in rows], chips=chips)
    for row, fresh in zip(rows, again, strict=True):
        assert np.abs(fresh.correct[0] - row.per_chip[:chips]).max() <= 1
        if chips == found.header.chips:  # over which errors are
            assert np.array(row.errors) == pytest.approx(fresh.site_errors.reshape(-1), rel=1e-3)
    assert not {"backbone", "bank"} & set(store.info()["kinds"])


def test_placements_as_good_as_the_best():
    """Counted one by one: the gap in J beside two standard errors of the paired difference in accuracy over chips."""
    table = TableEvaluator("lenet5-fashion-mini")
    best, images, gap = table.enumeration.best, table.enumeration.header.images, table.objective.gap
    counted = 0
    for row in table.enumeration.rows:
        differences = [(a - b) / images / gap for a, b in zip(best.per_chip, row.per_chip, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        counted += best.numbers["objective"] - row.numbers["objective"] <= 2 * error + 1e-12
    assert 1 <= counted == table.indistinguishable() < 1_024 / 2
    assert table.indistinguishable(0.0) == 1
    with pytest.raises(ConfigError, match="statistic is mean_minus_std"):
        TableEvaluator("lenet5-fashion-mini", {"statistic": "mean_minus_std"}).indistinguishable()


def test_other_objectives_on_the_same_counts(toy, table):
    """Another budget, statistic or price needs no new evaluation: all numbers equal those of a simulated task."""
    changes = {"budget": {"weights": 0.02}, "cost_weight": 1.0, "statistic": "mean_minus_std"}
    real = CompensationEnv(evaluator=MonteCarloEvaluator(toy.task.with_changes(**changes), toy.store))
    tabular = CompensationTabularEnv(table, changes)
    (seen, info), (seen_here, info_here) = real.reset(seed=0), tabular.reset(seed=0)
    for _ in range(4):
        assert np.abs(seen - seen_here).max() <= 1e-5
        assert all(np.array_equal(info[name], info_here[name]) for name in ("action_mask", "accuracy", "objective"))
        action = np.int64(np.flatnonzero(info["action_mask"])[-1])
        seen, reward, ended, _, info = real.step(action)
        seen_here, reward_here, _, _, info_here = tabular.step(action)
        assert reward == reward_here
        if ended:
            break
    values = [
        objective.value(tabular.evaluator.evaluate(p))
        for objective in [Objective.of(real.evaluator)]
        for p in real.evaluator.space.all_placements()
    ]
    assert tabular.table.extremes == pytest.approx((max(values), np.mean(values)), abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"chips": 3}, UnknownNameError, "change of a table"),
        ({"budget": {"weights": 0.03}}, ConfigError, "looser than the table's 0.02"),
        ({"statistic": "worst_case"}, ConfigError, "no function of a table's counts"),
    ],
)
def test_what_counts_cannot_answer_is_refused(capped, changes, error, words):
    with pytest.raises(error, match=words):
        gym.make(NAME, table=capped, changes=changes)


@pytest.mark.parametrize("kind", ["real", "vector"])
def test_the_log_of_the_fit_is_seen_where_it_is_asked_for(kind):
    """Tenths of J by the log, cost counted; everything else is what is seen without it."""
    plain = gym.make("CiMCompensationTabular-v0", table="lenet5-fashion-mini", max_sites=6).unwrapped
    env = gym.make("CiMCompensationTabular-v0", table="lenet5-fashion-mini", max_sites=6, fit_log=True).unwrapped
    seen, without = env.reset()[0], plain.reset()[0]
    if kind == "vector":
        seen = TabularVectorEnv(3, "lenet5-fashion-mini", max_sites=6, fit_log=True).reset()[0][2]
    names, objective = env.layout.names, env.episode.scenario.objective
    known = dict(zip(names, seen.tolist(), strict=True))
    assert [known[name] for name in plain.layout.names] == without.tolist()
    assert sum("logged" in name for name in names) == 6 * 3 + 1 == env.layout.size - plain.layout.size
    for site, option in ((0, 1), (2, 3), (4, 2)):
        gain = objective.gains.mean[site][option - 1] / objective.gap
        expected = 10 * (gain - objective.task.cost_weight * objective.space.scalar_costs[site, option])
        assert known[f"site{site}.logged_{option}"] == pytest.approx(expected, abs=1e-6)
    assert known["site5.logged_1"] == 0.0 and 0 < known["logged_error"] < 1
    assert env.observation_space.contains(seen)
    found = layout_of(env.observation_space, env.action_space)
    assert found.fit_log and found.names == names
    assert not layout_of(plain.observation_space, plain.action_space).fit_log


def test_without_a_log_the_observation_says_so():
    """Gains of 0 with the largest error."""
    table = TableEvaluator("lenet5-fashion-mini")
    env = gym.make("CiMCompensation-v0", evaluator=table, fit_log=True).unwrapped
    env.reset()
    scenario = Scenario(table.task, table.task.key, table)
    vars(scenario)["objective"] = replace(scenario.objective, gains=None)
    seen = env.observe(replace(env.episode, scenario=scenario))
    known = dict(zip(env.layout.names, seen.tolist(), strict=True))
    assert known["logged_error"] == 5.0 and known["site0.logged_1"] == 0.0
