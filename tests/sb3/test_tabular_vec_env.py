"""SB3's agents on the arrays."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from cimenv.core.errors import ConfigError
from cimenv.envs import CompensationTabularEnv, EvaluationBudget, TabularVectorEnv
from cimenv.sb3 import MixedVecEnv, PlacementCallback, TabularVecEnv


def test_steps_are_those_of_single_environments():
    """Against SB3's DummyVecEnv: observations, rewards, ends, masks; infos of ended episodes."""
    many = TabularVecEnv(TabularVectorEnv(4))
    single = DummyVecEnv([CompensationTabularEnv] * 4)
    assert is_masking_supported(many) and np.array_equal(many.reset(), single.reset())
    draws, ended = np.random.default_rng(0), 0
    paid, taken = np.zeros(4), np.zeros(4, dtype=int)
    for _ in range(40):
        assert np.array_equal(get_action_masks(many), get_action_masks(single))
        actions = draws.integers(many.action_space.n, size=4)
        (a, rewards_a, ends_a, infos_a), (b, rewards_b, ends_b, infos_b) = single.step(actions), many.step(actions)
        assert np.array_equal(a, b) and np.array_equal(ends_a, ends_b)
        assert rewards_a == pytest.approx(rewards_b, abs=1e-6)
        for k in np.flatnonzero(ends_a):
            ended += 1
            assert np.array_equal(infos_a[k]["terminal_observation"], infos_b[k]["terminal_observation"])
            for name in ("objective", "regret", "evaluations", "invalid_action", "is_success"):
                assert infos_a[k][name] == pytest.approx(infos_b[k][name], abs=1e-12)
            assert infos_b[k]["episode"] == {"r": pytest.approx(paid[k] + rewards_a[k], abs=1e-6), "l": 1 + taken[k]}
            assert infos_a[k]["cost"] == pytest.approx(infos_b[k]["cost"])
        paid, taken = np.where(ends_a, 0.0, paid + rewards_a), np.where(ends_a, 0, taken + 1)
    assert ended > 10


def test_maskable_ppo_learns_on_64_environments():
    """From a regret of 100 %, the mean of all placements, to under 10 % in 16,384 steps (measured: 0, the optimum)."""
    envs = TabularVecEnv(TabularVectorEnv(64))
    agent = MaskablePPO("MlpPolicy", envs, n_steps=32, batch_size=512, gamma=1.0, learning_rate=1e-3, seed=0)
    agent.learn(16_384)
    assert len(agent.ep_info_buffer) == 100 and agent.ep_info_buffer[-1]["l"] >= 1
    observation, regrets = envs.reset(), []
    while len(regrets) < 64:
        actions, _ = agent.predict(observation, action_masks=envs.envs.action_masks(), deterministic=True)
        observation, _, ends, infos = envs.step(actions)
        regrets += [infos[k]["regret"] for k in np.flatnonzero(ends)]
    assert np.mean(regrets) < 0.10


def test_the_dashboard_runs_on_it(tmp_path):
    envs = TabularVecEnv(TabularVectorEnv(4))
    agent = MaskablePPO("MlpPolicy", envs, n_steps=16, batch_size=32, tensorboard_log=str(tmp_path))
    callback = PlacementCallback()
    agent.learn(128, callback=callback)
    assert list(tmp_path.rglob("events*"))


def test_what_arrays_cannot_do_is_refused():
    for wrong, words in (
        ({"envs": 3}, "envs: got 3; give a TabularVectorEnv"),
        ({"envs": CompensationTabularEnv()}, "envs: got .*; give a TabularVectorEnv"),
        ({"envs": TabularVectorEnv(2, autoreset_mode="SameStep")}, "got autoreset_mode SameStep; give NextStep"),
        ({"reward_scale": 0}, "reward_scale: got 0; give a finite number above 0"),
        ({"reward_scale": float("nan")}, "reward_scale: got nan"),
        ({"reward_scale": True}, "reward_scale: got True"),
        ({"reward_scale": "1"}, "reward_scale: got '1'"),
    ):
        with pytest.raises(ConfigError, match=words):
            TabularVecEnv(**{"envs": TabularVectorEnv(2), **wrong})
    for arguments in ({"copy": False}, {"infos": "mask"}):
        with pytest.raises(ConfigError, match="give infos='all' and copy=True"):
            TabularVecEnv(TabularVectorEnv(2, **arguments))
    envs = TabularVecEnv(TabularVectorEnv(2))
    assert envs.get_attr("max_steps") == [11, 11] and envs.get_attr("num_envs", 0) == [2]
    with pytest.raises(AttributeError):
        envs.get_attr("placement")
    with pytest.raises(ConfigError, match="invalid_penalty: arrays of environments cannot be changed"):
        envs.set_attr("invalid_penalty", 1.0)
    assert len(envs.env_method("action_names")[0]) == 15


def test_dqn_runs(tmp_path):
    agent = DQN("MlpPolicy", TabularVecEnv(TabularVectorEnv(2)), learning_starts=32, buffer_size=500, seed=0)
    agent.learn(96)
    agent.save(tmp_path / "agent.zip")
    assert DQN.load(tmp_path / "agent.zip", env=TabularVecEnv(TabularVectorEnv(2))).num_timesteps == 96


def test_monitor_is_answered_for_and_returns_stay_unscaled():
    """SB3's evaluate_policy warns where nobody monitors; told so, it reads J itself, not the scaled rewards."""
    envs = TabularVecEnv(TabularVectorEnv(3), reward_scale=7.0)
    assert envs.env_is_wrapped(Monitor) == [True] * 3 and envs.env_is_wrapped(Monitor, [1]) == [True]
    assert envs.env_is_wrapped(EvaluationBudget) == [False] * 3 == envs.env_is_wrapped(gym.Wrapper)
    assert MixedVecEnv([envs]).env_is_wrapped(Monitor) == [True] * 3
    with pytest.raises(ConfigError, match="wrapper_class: got 'Monitor'; give the class of a wrapper"):
        envs.env_is_wrapped("Monitor")
    agent = MaskablePPO("MlpPolicy", envs, n_steps=8, batch_size=8, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        returns, lengths = evaluate_policy(agent, envs, n_eval_episodes=3, return_episode_rewards=True)
    envs.reset()
    observation, found = envs.reset(), []
    while len(found) < 3:
        actions, _ = agent.predict(observation, action_masks=envs.envs.action_masks(), deterministic=True)
        observation, _, ended, infos = envs.step(actions)
        found += [infos[k]["objective"] for k in np.flatnonzero(ended)]
    assert returns == pytest.approx(found, abs=1e-6) and min(lengths) >= 1


def test_settings_of_callbacks_and_mixtures_that_are_none():
    for wrong, words in (
        ({"every": True}, "every: got True"),
        ({"every": float("nan")}, "every: got nan"),
        ({"images_every": 0}, "images_every: got 0"),
        ({"images_every": "5"}, "images_every: got '5'"),
        ({"final": 3}, "final: got 3; give a function"),
    ):
        with pytest.raises(ConfigError, match=words):
            PlacementCallback(**wrong)
    for wrong in (3, [3], "ab", {"a": 1}, [TabularVectorEnv(1)]):
        with pytest.raises(ConfigError, match=r"parts: got .*; give a list of SB3's vector environments"):
            MixedVecEnv(wrong)
