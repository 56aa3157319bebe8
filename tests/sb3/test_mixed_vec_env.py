"""One policy on several tasks at once: tables and simulated chips side by side."""

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError
from cimenv.envs import CompensationEnv, TabularVectorEnv
from cimenv.sb3 import MixedVecEnv, SitePolicy, TabularVecEnv
from cimenv.tasks.requests import Compute

SITES = 6


@pytest.fixture(scope="module")
def table(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "toy.csv"
    enumerate_placements(toy.task, path, store=toy.store, compute=Compute(1))
    return str(path)


def parts(toy, table):
    tabular = TabularVecEnv(TabularVectorEnv(3, table, max_sites=SITES, changes={"budget": {"weights": 0.02}}))
    real = DummyVecEnv([lambda: CompensationEnv(evaluator=toy, max_sites=SITES)])
    return tabular, real


def test_steps_are_those_of_the_parts(toy, table):
    mixed, (tabular, real) = MixedVecEnv(parts(toy, table)), parts(toy, table)
    mixed.seed(0), tabular.seed(0), real.seed(0)
    seen = mixed.reset()
    assert np.array_equal(seen, np.concatenate([tabular.reset(), real.reset()])) and mixed.num_envs == 4
    draws = np.random.default_rng(0)
    for _ in range(20):
        masks = np.array(mixed.env_method("action_masks"))
        assert np.array_equal(masks[:3], tabular.env_method("action_masks"))
        actions = np.array([draws.choice(np.flatnonzero(mask)) for mask in masks])
        seen, rewards, ended, infos = mixed.step(actions)
        ours, theirs = tabular.step(actions[:3]), real.step(actions[3:])
        assert np.array_equal(seen, np.concatenate([ours[0], theirs[0]]))
        assert np.array_equal(rewards, np.concatenate([ours[1], theirs[1]]))
        assert np.array_equal(ended, np.concatenate([ours[2], theirs[2]])) and len(infos) == 4
    tabular_budget, real_budget = {"weights": 0.02}, {}
    budgets = [task.budget for task in mixed.get_attr("base_task", [3, 1, 3])]
    assert budgets == [real_budget, tabular_budget, real_budget]
    assert [len(mask) for mask in mixed.env_method("action_masks", indices=[-1, 0])] == [1 + 2 * SITES] * 2
    with pytest.raises(IndexError, match="there are 4 environments"):
        mixed.get_attr("base_task", 4)


def test_a_policy_trains_on_both(toy, table):
    model = MaskablePPO(SitePolicy, MixedVecEnv(parts(toy, table)), n_steps=8, batch_size=16, gamma=1.0, seed=0)
    assert model.learn(64).num_timesteps == 64


def test_spaces_must_agree(toy, table):
    tabular, _ = parts(toy, table)
    with pytest.raises(ConfigError, match="give all one max_sites"):
        MixedVecEnv([tabular, DummyVecEnv([lambda: gym.make("CiMCompensation-v0", evaluator=toy)])])
    with pytest.raises(ConfigError, match="at least one"):
        MixedVecEnv([])
