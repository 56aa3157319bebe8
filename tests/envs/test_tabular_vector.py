"""Arrays of environments beside gymnasium's SyncVectorEnv: every mode, seeds, dtypes, what is refused."""

import functools
import gc
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from cimenv.core.errors import ConfigError, EpisodeError, InvalidActionError, UnknownNameError
from cimenv.envs import CompensationTabularEnv, TabularVectorEnv
from cimenv.tasks import TableEvaluator

TABLE = TableEvaluator("lenet5-fashion-mini")
NAME, COUNT = "CiMCompensationTabular-v0", 5
ACTIONS = 16
MODES = list(AutoresetMode)


def same(a, b, where=""):
    """Infos and arrays: values, dtypes and shapes; NaN nowhere."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for name in a:
            same(a[name], b[name], f"{where}.{name}")
    else:
        assert a.dtype == b.dtype and a.shape == b.shape, (where, a.dtype, b.dtype)
        if a.dtype == object:
            for one, other in zip(a, b, strict=True):
                assert type(one) is type(other) and np.array_equal(one, other), where
        else:
            assert np.array_equal(a, b), where


def pair(mode, **arguments):
    slow = gym.make_vec(NAME, COUNT, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **arguments)
    return slow, gym.make_vec(NAME, COUNT, autoreset_mode=mode, **arguments)


@functools.cache
def laid_out(count, mode=AutoresetMode.NEXT_STEP):
    """Arrays that tests share, each after a reset of its own."""
    return TabularVectorEnv(count, autoreset_mode=mode)


def draw(draws):
    """Actions that seldom stop, so that episodes differ in length."""
    actions = draws.integers(ACTIONS, size=COUNT)
    return np.where(draws.random(COUNT) < 0.8, 1 + draws.integers(ACTIONS - 1, size=COUNT), actions)


@pytest.mark.parametrize("arguments", [{}, {"feedback": "reset"}, {"reward": "terminal", "max_steps": 3}])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_mode_is_that_of_sync_vector_env(mode, arguments):
    """40 steps: observations and infos to the last bit with their dtypes, rewards to 1e-12 (summed otherwise)."""
    slow, fast = pair(mode, **arguments)
    assert isinstance(slow, SyncVectorEnv) and isinstance(fast, TabularVectorEnv)
    assert fast.metadata["autoreset_mode"] is mode is slow.metadata["autoreset_mode"]
    draws, episodes = np.random.default_rng(1), 0
    (a, info_a), (b, info_b) = slow.reset(seed=3), fast.reset(seed=3)
    for _ in range(40):
        same(a, b)
        same(info_a, info_b)
        actions = draw(draws)
        a, reward_a, ended_a, cut_a, info_a = slow.step(actions)
        b, reward_b, ended_b, cut_b, info_b = fast.step(actions)
        same(ended_a, ended_b)
        same(cut_a, cut_b)
        assert reward_a.dtype == reward_b.dtype and reward_a == pytest.approx(reward_b, abs=1e-12)
        episodes += int(ended_b.sum())
        if mode == AutoresetMode.DISABLED and ended_b.any():
            same(a, b)
            same(info_a, info_b)
            mask = ended_b if draws.random() < 0.7 else ended_b | (draws.random(COUNT) < 0.5)
            given = [7, None, 3, 2, 1]
            a, info_a = slow.reset(seed=given, options={"reset_mask": mask.copy()})
            options = {"reset_mask": mask}
            b, info_b = fast.reset(seed=given, options=options)
            assert options == {"reset_mask": mask}  # SyncVectorEnv takes it out of the caller's mapping
    assert episodes > 10


def test_only_masks_may_be_told_in_every_mode():
    for mode in MODES:
        envs, told = (TabularVectorEnv(COUNT, autoreset_mode=mode, infos=infos) for infos in ("all", "mask"))
        envs.reset(), told.reset()
        for actions in ([1, 1, 1, 1, 1], [0, 4, 4, 4, 4]):
            info, masks = envs.step(np.array(actions))[4], told.step(np.array(actions))[4]
        assert np.array_equal(info["action_mask"], masks["action_mask"])
        assert ("final_info" in masks) == (mode is AutoresetMode.SAME_STEP)
        if "final_info" in masks:
            same({k: info["final_info"][k] for k in masks["final_info"]}, masks["final_info"])


@pytest.mark.parametrize("seed", [4, [3, 1, 4, 1, 5], [None, 2, 3, 4, 5]])
def test_seeds_are_those_of_sync_vector_env(seed):
    slow, fast = pair(AutoresetMode.NEXT_STEP)
    slow.reset(seed=seed), fast.reset(seed=seed)
    known = [k for k in range(COUNT) if not isinstance(seed, list) or seed[k] is not None]
    for again in (None, None, {"seed": [9, None, None, None, 2]}):
        assert [fast.np_random_seed[k] for k in known] == [slow.np_random_seed[k] for k in known]
        a, b = ([env.np_random[k].integers(2**60) for k in known] for env in (slow, fast))
        assert a == b and len(fast.np_random) == len(fast.np_random_seed) == COUNT
        slow.reset(**(again or {})), fast.reset(**(again or {}))
    assert fast.np_random_seed[0] == 9 == slow.np_random_seed[0]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_before_reset_nothing_steps(mode):
    envs = TabularVectorEnv(2, autoreset_mode=mode)
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        envs.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EpisodeError, match=r"reset_mask: no environment has begun; call reset\(\) without it first"):
        envs.reset(options={"reset_mask": np.array([True, False])})


def test_without_autoreset_an_ended_episode_takes_no_step():
    envs = TabularVectorEnv(3, autoreset_mode="Disabled")
    envs.reset(seed=0)
    assert envs.step(np.array([0, 1, 0]))[2].tolist() == [True, False, True]
    with pytest.raises(EpisodeError, match=r"environments \[0, 2\] are over; reset them by options\['reset_mask'\]"):
        envs.step(np.array([1, 1, 1]))
    envs.reset(options={"reset_mask": np.array([True, False, True])})
    assert envs.step(np.array([1, 4, 1]))[4]["placement"].tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
    ]


WRONG = {
    "fractions": np.array([1.9, 2.9]),
    "whole floats": np.array([1.0, 2.0]),
    "nan": np.array([np.nan, 1.0]),
    "booleans": np.array([True, False]),
    "a list of booleans": [True, 2],
    "numpy booleans": [np.True_, 2],
    "objects": np.array([1, 2], dtype=object),
    "texts": np.array(["1", "2"]),
    "a tensor": torch.tensor([1, 2]),
    "tensors": [torch.tensor(1), torch.tensor(2)],
    "complex": np.array([1 + 0j, 2]),
    "dates": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    "too few": np.array([1]),
    "too many": np.array([1, 2, 3]),
    "none": np.array([], dtype=np.int64),
    "a column": np.array([[1], [2]]),
    "a number": 1,
    "nothing": None,
    "ragged": [[1], [1, 2]],
    "negative": np.array([-1, 0]),
    "too large": np.array([0, 16]),
    "far too large": np.array([0, 2**63 + 5], dtype=np.uint64),
    "beyond int64": [10**30, 0],
    "a mapping": {0: 1, 1: 2},
    "a text": "ab",
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_actions_that_are_none_are_refused_in_one_sentence(mode, kind):
    envs = laid_out(2, mode)
    envs.reset(seed=0)
    with pytest.raises(
        InvalidActionError, match=r"^actions?:? .*(give an array of 2 integers|take an integer).*\.$"
    ) as told:
        envs.step(WRONG[kind])
    assert "\n" not in str(told.value) and len(str(told.value)) < 250
    assert np.array_equal(envs.step(np.array([1, 1]))[4]["evaluations"], [2, 2])  # nothing had moved


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_actions_of_every_integer_type_are_taken(dtype):
    envs = laid_out(2)
    envs.reset(seed=0)
    expected = envs.step(np.array([1, 4]))[1]
    for actions in (
        np.array([1, 4], dtype=dtype),
        [1, 4],
        (np.int64(1), np.int32(4)),
        np.array([1, 0, 4, 0], dtype)[::2],
    ):
        envs.reset(seed=0)
        assert np.array_equal(envs.step(actions)[1], expected)


@pytest.mark.parametrize("name", ["CiMCompensation-v0", "CiMCompensationWalk-v0", NAME])
@pytest.mark.parametrize("kind", ["fractions", "booleans", "nan", "a tensor", "objects of fractions"])
def test_gymnasiums_own_vector_environments_refuse_them_too(name, kind):
    envs = gym.make_vec(name, 2, vectorization_mode="sync", **({} if name == NAME else {"evaluator": TABLE}))
    envs.reset(seed=0)
    actions = {**WRONG, "objects of fractions": np.array([1.5, None], dtype=object)}[kind]
    with pytest.raises(InvalidActionError, match="is outside Discrete"):
        envs.step(actions)


def test_workers_hand_the_refusal_on():
    envs = gym.make_vec(NAME, 2, vectorization_mode="async")
    envs.reset(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium's word on a worker that raised
        with pytest.raises(InvalidActionError, match=r"action np.float64\(.*\) is outside Discrete\(16\)"):
            envs.step(WRONG["fractions"])
        envs.close(terminate=True)
        del envs
        gc.collect()


@pytest.mark.parametrize(
    "action",
    [
        1.9,
        1.0,
        True,
        np.True_,
        np.array([1]),
        np.array(1.0),
        np.array(True),
        "1",
        None,
        torch.tensor(1),
        [1],
        float("nan"),
        -1,
        16,
        10**30,
        np.uint64(2**63),
        1 + 0j,
    ],
)
def test_an_action_of_one_environment_that_is_none(action):
    env = CompensationTabularEnv()
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match=r"is outside Discrete\(16\); take an integer from 0 to 15\.$"):
        env.step(action)
    assert env.episode.steps == 0
    for good in (np.array(1), np.int32(4), np.uint8(7), 10):
        assert env.step(good)[4]["invalid_action"] is False


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"num_envs": 0}, ConfigError, "num_envs: got 0; give an int of at least 1"),
        ({"num_envs": True}, ConfigError, "num_envs: got True"),
        ({"num_envs": 2.0}, ConfigError, "num_envs: got 2.0"),
        ({"num_envs": 10**30}, ConfigError, "num_envs: got 10{30}; give an int of at most 10,000,000"),
        (
            {"autoreset_mode": "next"},
            UnknownNameError,
            "Unknown autoreset_mode 'next'; known: Disabled, NextStep, SameStep",
        ),
        ({"autoreset_mode": 1}, UnknownNameError, "Unknown autoreset_mode '1'"),
        ({"autoreset_mode": None}, UnknownNameError, "Unknown autoreset_mode 'None'"),
        ({"infos": ["all"]}, UnknownNameError, r"Unknown infos '\['all'\]'; known: all, mask"),
        ({"copy": "no"}, ConfigError, "copy: got 'no'; give True or False"),
        ({"render_mode": "rgb_array"}, ConfigError, "render_mode: got 'rgb_array', but arrays are not drawn"),
        ({"table": 3}, ConfigError, "table: got 3; give the name of a shipped table"),
        ({"max_steps": float("nan")}, ConfigError, "max_steps: got nan"),
    ],
)
def test_arguments_that_are_none(wrong, error, words):
    with pytest.raises(error, match=words):
        TabularVectorEnv(**{"num_envs": 2, **wrong})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": "a"}, "seed: got 'a'; give an int of at least 0, or None"),
        ({"seed": True}, "seed: got True"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": [1]}, "seed: got a list of 1; give one seed for each of the 2 environments"),
        ({"seed": [1, "b"]}, "seed: got 'b'"),
        ({"seed": {1: 2}}, r"seed: got \{1: 2\}"),
        ({"options": [1]}, r"reset options: got \[1\]; give a mapping or None"),
        ({"options": "reset_mask"}, "reset options: got 'reset_mask'"),
        ({"options": {1: 2}}, "reset options: got unknown key 1; a table holds one trained network"),
        (
            {"options": {"reset_mask": [True, False]}},
            r"reset_mask: got \[True, False\]; give a boolean numpy array \[2\]",
        ),
        ({"options": {"reset_mask": np.array([1, 0])}}, r"reset_mask: got int64 \[2\]"),
        ({"options": {"reset_mask": np.array([True])}}, r"reset_mask: got bool \[1\]"),
        ({"options": {"reset_mask": np.array([[True, True]])}}, r"reset_mask: got bool \[1, 2\]"),
        ({"options": {"reset_mask": np.array([False, False])}}, "reset_mask: chooses no environment"),
        ({"options": {"reset_mask": None}}, "reset_mask: got None"),
    ],
)
def test_resets_that_are_none(wrong, words):
    envs = laid_out(2)
    envs.reset(seed=np.int64(3))
    assert envs.np_random_seed == (3, 4)
    with pytest.raises(ConfigError, match=words):
        envs.reset(**wrong)
    assert envs.np_random_seed == (3, 4)


def test_masks_of_one_step_do_not_change_with_the_next():
    envs = TabularVectorEnv(3)
    _, info = envs.reset(seed=0)
    before = {name: np.array(value) for name, value in info.items() if not isinstance(value, dict)}
    envs.step(np.array([1, 2, 3]))
    for name, value in before.items():
        assert np.array_equal(info[name], value), name


def test_gymnasiums_wrappers_take_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(NAME, 3))
        envs.reset(seed=0)
        _, rewards, *_ = envs.step(np.array([1, 4, 7]))
        *_, ended, _, info = envs.step(np.zeros(3, dtype=np.int64))
    assert ended.all() and info["episode"]["r"] == pytest.approx(rewards, abs=1e-6)


def test_the_optimum_is_that_of_the_placements_within_the_step_limit():
    """Counted by hand: the largest J of at most k blocks, and regret measured by their mean."""
    values = {p: TABLE.objective.value(TABLE.evaluate(p)) for p in TABLE.space.all_placements()}
    found = []
    for steps in (1, 2, 4, 5, None):
        few = [v for p, v in values.items() if sum(o > 0 for o in p) <= (steps or 5)]
        env = CompensationTabularEnv(max_steps=steps)
        _, info = env.reset(seed=0)
        assert info["optimum"] == pytest.approx(max(few), abs=1e-12)
        assert info["regret"] == pytest.approx(max(few) / (max(few) - np.mean(few)))
        found.append(info["optimum"])
    assert found == sorted(found) and found[0] < found[1] < found[3] == found[4]
    _, many = TabularVectorEnv(2, max_steps=1).reset()
    assert many["optimum"].tolist() == [found[0]] * 2
