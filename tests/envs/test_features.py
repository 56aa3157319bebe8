"""Features: rows of one registry; one of the user's own is seen only where an environment names it."""

import gymnasium as gym
import numpy as np
import pytest

import cimenv
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.envs import CompensationEnv, CompensationTabularEnv, CompensationWalkEnv, TabularVectorEnv
from cimenv.envs.features.base import BOUND, Feature
from cimenv.envs.features.registry import FEATURES, FIT_LOG, V0
from cimenv.tasks import TableEvaluator

TABLE = TableEvaluator("lenet5-fashion-mini")
BLOCKS = Feature("blocks", lambda view: sum(o > 0 for o in view.placement), "blocks placed", "placement", bounds=(0, 9))
FIRST = Feature("first", lambda view: np.arange(len(view.placement)) == 0, "1 for the first site", bounds=(0, 1))
PRICE = Feature("price", lambda view: view.space.terms[:, 1:, 1], "share of MACs of this block", "option")
NEAR = Feature("near", lambda view: np.ones((len(view.placement), 2)), "two ones", labels=("left", "right"))


@pytest.fixture
def features(monkeypatch):
    """The registry with the features above, a line each, for one test."""
    monkeypatch.setattr(FEATURES, "_entries", dict(FEATURES._entries))
    monkeypatch.setattr(FEATURES, "_own", dict(FEATURES._own))
    for row in (BLOCKS, FIRST, PRICE, NEAR):
        cimenv.register(row)
    return FEATURES


def test_the_observation_of_v0_is_frozen(features):
    """Its length and the order of its names, for 5 sites and 3 options, whatever is registered beside."""
    env = CompensationTabularEnv()
    names = env.layout.names
    assert env.observation_space == gym.spaces.Box(-BOUND, BOUND, (167,), np.float32) and len(names) == 167
    assert names[:3] == ["site0.valid", "site0.type_conv", "site0.type_dense"]
    assert names[26:29] == ["site0.allowed_3", "site0.current", "site1.valid"]
    assert names[-2:] == ["log_time", "variation"]
    assert not {"blocks", "site0.first"} & set(names)
    assert {*V0, *FIT_LOG, "blocks", "first", "price", "near"} == set(FEATURES.names)


@pytest.mark.parametrize("kind", [CompensationEnv, CompensationWalkEnv, CompensationTabularEnv])
def test_own_features_are_seen_where_they_are_named(features, kind):
    given = {} if kind is CompensationTabularEnv else {"evaluator": TABLE}
    plain, env = kind(**given, max_sites=6), kind(**given, max_sites=6, features=["blocks", "first", "price", "near"])
    without, _ = plain.reset(seed=0)
    seen, _ = env.reset(seed=0)
    told = dict(zip(env.layout.names, seen.tolist(), strict=True))
    assert [told[name] for name in plain.layout.names] == without.tolist()
    assert env.layout.size == plain.layout.size + 1 + 6 * (1 + 3 + 2) == len(seen)
    assert [told[f"site{s}.first"] for s in range(6)] == [1, 0, 0, 0, 0, 0] and told["blocks"] == 0
    assert [told[f"site{s}.near_left"] for s in (4, 5)] == [1, 0]
    assert told["site2.price_3"] == np.float32(TABLE.space.terms[2, 3, 1])
    seen = env.step(1)[0]
    assert env.observation_space.contains(seen) and seen[env.layout.names.index("blocks")] == 1
    low, high = env.observation_space.low, env.observation_space.high
    assert (low[env.layout.names.index("blocks")], high[env.layout.names.index("blocks")]) == (0, 9)
    assert type(env.layout)(**env.layout.arguments).names == env.layout.names


def test_a_feature_of_a_file_of_the_users_own(tmp_path, monkeypatch):
    """By where it is, without registering."""
    (tmp_path / "my_features.py").write_text(
        "from cimenv.envs.features.base import Feature\n"
        "LOAD = Feature('load', lambda view: len(view.space.sites), 'sites', 'placement')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    env = gym.make("CiMCompensationTabular-v0", features=["my_features:LOAD"])
    assert env.reset(seed=0)[0][-1] == 5 and env.unwrapped.layout.names[-1] == "load"
    assert "my_features:LOAD" in env.spec.to_json()


def test_arrays_see_them_too(features):
    one, many = CompensationTabularEnv(features=["blocks"]), TabularVectorEnv(2, features=["blocks"])
    one.reset(seed=0), many.reset(seed=0)
    assert np.array_equal(one.step(4)[0], many.step(np.array([4, 4]))[0][1])


def test_arrays_refuse_what_changes_with_the_steps(features):
    """A row of them is laid out once; a single environment shows it."""
    features.register(Feature("late", lambda view: view.steps_left < 0.5, "1 in the second half", "placement"))
    assert CompensationTabularEnv(features=["late"]).reset(seed=0)[0][-1] == 0
    with pytest.raises(ConfigError, match="features: late changes with the steps, which arrays cannot show"):
        TabularVectorEnv(2, features=["late"])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"formula": lambda view: 1 / 0}, "feature bad: the formula fails: ZeroDivisionError: .*; correct it"),
        ({"formula": lambda view: np.ones(2)}, r"feature bad: the formula returned an array \[2\]; return one \[5\]"),
        ({"formula": lambda view: ["a"] * 5}, "feature bad: the formula fails: ValueError"),
    ],
)
def test_a_formula_that_fails_is_one_sentence(features, row, words):
    features.register(Feature("bad", doc="not at all", **row))
    with pytest.raises(ConfigError, match=words) as told:
        CompensationTabularEnv(features=["bad"]).reset(seed=0)
    assert "\n" not in str(told.value)


def test_what_is_no_feature_is_one_sentence(features):
    for wrong, words in (
        ("blocks", "features: got 'blocks'; give a list of names"),
        ([BLOCKS], "features: got .*; give a list of names"),
        (["depth"], "features: depth is observed already"),
        (["blocks", "blocks"], "features: blocks is observed already"),
        (True, "features: got True"),
    ):
        with pytest.raises(ConfigError, match=words):
            CompensationTabularEnv(features=wrong)
    with pytest.raises(UnknownNameError, match=r"Unknown feature 'block'.*Did you mean 'blocks'"):
        CompensationTabularEnv(features=["block"])
    for wrong, words in (
        ({"of": "layer"}, "Unknown subject of feature bad 'layer'"),
        ({"formula": 3}, "feature bad: the formula is 3; give a function of a View"),
        ({"bounds": (1, 0)}, r"feature bad: the bounds are \(1, 0\)"),
        ({"of": "option", "labels": ("a",)}, "feature bad: an option has one number each"),
    ):
        with pytest.raises(ConfigError, match=words):
            Feature(**{"name": "bad", "formula": len, "doc": "not at all", **wrong})
    with pytest.raises(ConfigError, match="feature: the name 'depth' is taken"):
        features.register(Feature("depth", len, "another"))


@pytest.mark.parametrize("name", FEATURES.names)
def test_every_row_says_what_it_is(name):
    row = FEATURES[name]
    assert row.name == name and len(row.doc) > 5 and row.doc.endswith(".")
    assert row.bounds == (-BOUND, BOUND)  # of -v0 and the fit's log
