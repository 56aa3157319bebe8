"""The policy over site tokens: it knows sites by what they are, not by where they stand."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO

from cimenv.core.errors import ConfigError
from cimenv.envs import CompensationTabularEnv, TabularVectorEnv
from cimenv.envs.observation import ObservationLayout
from cimenv.sb3 import SitePolicy, TabularVecEnv
from cimenv.sb3.tokens import SiteTokens, layout_of
from cimenv.search import run_search


def agent_on(envs, **settings):
    settings["policy_kwargs"] = {"layout": envs.single.layout.arguments, **settings.get("policy_kwargs", {})}
    return MaskablePPO(
        SitePolicy, TabularVecEnv(envs), n_steps=32, batch_size=512, gamma=1.0, learning_rate=1e-3, seed=0, **settings
    )


def stirred(extractor):
    """Give every parameter a random value, so that nothing is equal by being zero."""
    torch.manual_seed(0)
    for parameter in extractor.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return extractor.eval()


def spaces_of(layout):
    return gym.spaces.Box(-5, 5, (layout.size,)), gym.spaces.Discrete(1 + layout.max_sites * layout.options)


@pytest.mark.parametrize("max_sites", [5, 9])
def test_a_layout_that_alone_fits_needs_no_telling(max_sites):
    env = CompensationTabularEnv(max_sites=max_sites)
    found = layout_of(env.observation_space, env.action_space)
    assert (found.max_sites, found.options) == (max_sites, 3)
    assert layout_of(env.observation_space, env.action_space, env.layout).names == env.layout.names


def ambiguous():
    """Pairs of layouts that nobody can tell apart by the size of observations and the number of actions."""
    found = {}
    for sites, options, log in itertools.product(range(1, 25), range(1, 13), (False, True)):
        layout = ObservationLayout(sites, options, log)
        found.setdefault((layout.size, sites * options), []).append(layout)
    return [layouts for layouts in found.values() if len(layouts) > 1]


def test_what_could_be_another_layout_is_told_not_guessed():
    """3 sites x 6 options without the log have the sizes of 2 x 9 with it."""
    pairs = ambiguous()
    wide = {"max_sites": 2, "options": 9, "fit_log": True, "features": ()}
    first = next(pair for pair in pairs if pair[0].arguments == wide)
    assert first[1].arguments == {"max_sites": 3, "options": 6, "fit_log": False, "features": ()} and len(first) == 2
    for layouts in pairs:
        spaces = spaces_of(layouts[0])
        with pytest.raises(ConfigError, match=r"layout: .* sites x .* and .* fit observations .*; give the one of"):
            layout_of(*spaces)
        for layout in layouts:
            assert layout_of(*spaces, layout.arguments).names == layout.names
    sizes = SitePolicy(*spaces_of(first[1]), lambda _: 1e-3, layout=first[1])
    assert sizes.features_extractor.sites == 3


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"max_sites": 6, "options": 3}, "layout: 6 sites x 3 options without the fit's log does not fit observations"),
        (
            {"max_sites": 5, "options": 3, "fit_log": True},
            "5 sites x 3 options with the fit's log does not fit",
        ),
        ({"max_sites": 3, "options": 5}, "layout: 3 sites x 5 options without the fit's log does not fit"),
        ({"max_sites": 5}, r"layout: got {'max_sites': 5}; give a mapping of max_sites, options, fit_log and features"),
        ({"max_sites": 5, "options": 3, "log": 1}, "layout: got {'max_sites': 5, 'options': 3, 'log': 1}; give"),
        ({"max_sites": True, "options": 3}, "layout.max_sites: got True"),
        ({"max_sites": 5, "options": 3.0}, "layout.options: got 3.0"),
        ({"max_sites": 5, "options": 3, "fit_log": 0}, "layout.fit_log: got 0; give True or False"),
        ([5, 3, False], r"layout: got \[5, 3, False\]"),
        (5, "layout: got 5"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(told, words):
    env = CompensationTabularEnv()
    with pytest.raises(ConfigError, match=words):
        MaskablePPO(SitePolicy, env, policy_kwargs={"layout": told})


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([1], r"tokens: got \[1\]; give a mapping of width, layers, heads, ignored, led_by"),
        ({"widht": 8}, r"Unknown argument of tokens 'widht'.*Did you mean 'width'"),
        ({"width": 0}, r"tokens.width: got 0; give an int of at least 1"),
        ({"width": float("nan")}, r"tokens.width: got nan"),
        ({"width": 10}, r"tokens.width: got 10; give a multiple of the 4 heads"),
        ({"layers": True}, r"tokens.layers: got True"),
        ({"heads": -1}, r"tokens.heads: got -1"),
        ({"ignored": "type_*"}, r"tokens.ignored: got 'type_\*'; give a list of patterns"),
        ({"ignored": [1]}, r"tokens.ignored: got \[1\]"),
        ({"led_by": ["logged"]}, r"tokens.led_by: got \['logged'\]; give a mapping"),
        ({"led_by": {"logged": float("nan")}}, r"led_by.logged: got nan; give a finite factor above 0"),
        ({"led_by": {"logged": "a"}}, r"led_by.logged: got 'a'"),
    ],
)
def test_settings_that_are_none_are_one_sentence(tokens, words):
    with pytest.raises(ConfigError, match=words):
        MaskablePPO(SitePolicy, CompensationTabularEnv(fit_log=True), policy_kwargs={"tokens": tokens})


def test_spaces_of_another_environment_are_refused():
    with pytest.raises(ConfigError, match="4 actions are not those of CiMCompensation-v0; use MlpPolicy"):
        layout_of(gym.spaces.Box(-1, 1, (8,)), gym.spaces.Discrete(4))


def test_permuted_sites_permute_the_logits():
    env = CompensationTabularEnv()
    layout, (seen, _) = env.layout, env.reset(seed=0)
    extractor = stirred(SiteTokens(env.observation_space, layout))
    order = torch.tensor([3, 0, 4, 1, 2])
    x = torch.from_numpy(seen)[None]
    split = layout.max_sites * len(layout.site_fields)
    permuted = torch.cat([x[:, :split].view(1, 5, -1)[:, order].flatten(1), x[:, split:]], 1)
    with torch.no_grad():
        a, b = extractor(x), extractor(permuted)
    assert torch.allclose(a[:, 1:16].view(5, 3)[order], b[:, 1:16].view(5, 3), atol=1e-5)
    assert torch.allclose(a[:, 0], b[:, 0], atol=1e-5) and torch.allclose(a[:, 16:], b[:, 16:], atol=1e-5)
    assert a[:, 1:16].std() > 0.01


def test_ignored_numbers_change_nothing():
    env = CompensationTabularEnv()
    layout, (seen, _) = env.layout, env.reset(seed=0)
    types = [name.partition(".")[2].startswith("type_") for name in layout.names]
    x = torch.from_numpy(seen)[None]
    other = torch.where(torch.tensor(types), 1.0 - x, x)
    blind, reader = (stirred(SiteTokens(env.observation_space, layout, ignored=i)) for i in (["type_*"], []))
    with torch.no_grad():
        assert torch.equal(blind(x), blind(other)) and not torch.allclose(reader(x), reader(other), atol=1e-3)


def test_what_leads_decides_before_anything_is_learned():
    """Every block that the log says is worth its cost, as the search `fit_log` places: no budget stands in the way."""
    env = CompensationTabularEnv("lenet5-fashion-lipschitz", feedback="reset", fit_log=True, max_sites=7)
    envs = TabularVectorEnv(4, "lenet5-fashion-lipschitz", feedback="reset", fit_log=True, max_sites=7)
    agent = agent_on(envs, policy_kwargs={"tokens": {"led_by": {"logged": 20.0}}})
    observation, info = env.reset(seed=0)
    done = False
    while not done:
        action, _ = agent.predict(observation, deterministic=True, action_masks=info["action_mask"].astype(bool))
        observation, _, terminated, truncated, info = env.step(int(action))
        done = terminated or truncated
    assert tuple(info["placement"][:5]) == run_search(env.table, "fit_log").best
    with pytest.raises(ConfigError, match="led_by: observations hold no logged of the options"):
        SiteTokens(env.observation_space, CompensationTabularEnv().layout, led_by={"logged": 20.0})
    with pytest.raises(ConfigError, match=r"led_by\.logged: got 0; give a finite factor above 0"):
        SiteTokens(env.observation_space, env.layout, led_by={"logged": 0.0})


def test_padding_changes_nothing():
    narrow, wide = CompensationTabularEnv(), CompensationTabularEnv(max_sites=8, max_steps=11)
    (a, _), (b, _) = narrow.reset(seed=0), wide.reset(seed=0)
    one = stirred(SiteTokens(narrow.observation_space, narrow.layout))
    other = stirred(SiteTokens(wide.observation_space, wide.layout))
    with torch.no_grad():
        x, y = one(torch.from_numpy(a)[None]), other(torch.from_numpy(b)[None])
    assert torch.allclose(x[:, :16], y[:, :16], atol=1e-5) and torch.allclose(x[:, 16:], y[:, 25:], atol=1e-5)


def final_regret(policy, env):
    observation, info = env.reset(seed=0)
    done = False
    while not done:
        action, _ = policy.predict(observation, action_masks=env.action_masks(), deterministic=True)
        observation, _, done, _, info = env.step(np.int64(action))
    return info["regret"]


@pytest.mark.slow
def test_it_learns():
    """From a regret of 100 %, the mean of all placements, to under 10 % in 16,384 steps on 64 environments."""
    agent = agent_on(TabularVectorEnv(64)).learn(16_384)
    assert final_regret(agent, CompensationTabularEnv()) < 0.10


def test_it_is_saved_and_loaded(tmp_path):
    agent, env = agent_on(TabularVectorEnv(4)).learn(64), CompensationTabularEnv()
    regret = final_regret(agent, env)
    agent.save(tmp_path / "agent.zip")
    loaded = MaskablePPO.load(tmp_path / "agent.zip")
    assert final_regret(loaded, env) == regret and loaded.policy.layout == env.layout.arguments
    del agent.policy_kwargs["layout"]  # as policies were saved before they were told
    agent.save(tmp_path / "old.zip")
    assert final_regret(MaskablePPO.load(tmp_path / "old.zip"), env) == regret


def test_width_layers_and_heads_are_settings():
    agent = agent_on(TabularVectorEnv(2), policy_kwargs={"tokens": {"width": 16, "layers": 1, "heads": 2}})
    extractor = agent.policy.features_extractor
    assert extractor.features_dim == 16 + 16 and len(extractor.encoder.layers) == 1
    optimised = {id(p) for group in agent.policy.optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in agent.policy.parameters()}
