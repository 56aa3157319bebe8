"""The environments as their users meet them."""

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env

import cimenv
from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError, EpisodeError, InvalidActionError, UnknownNameError
from cimenv.envs import CompensationEnv, EvaluationBudget
from cimenv.tasks import MonteCarloEvaluator, TableEvaluator, load_task
from cimenv.tasks.requests import Compute
from cimenv.training import Recipe

IDS = ("CiMCompensation-v0", "CiMCompensationWalk-v0")  # the tabular one has tests of its own
QUICK = {
    "extends": "toy-4site",
    "recipe": {"name": "standard", "epochs": 1},
    "reference": {"name": "standard", "epochs": 1},
    "bank": {"steps": 20},
    "chips": 2,
    "images": 200,
}


def rollout(env, seed=0, stop=False):
    """Return everything an episode of random valid actions shows."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    trace, done = [(observation, 0.0, info)], False
    while not done:
        mask = info["action_mask"].copy()
        mask[0] = mask[0] if stop or mask[1:].sum() == 0 else 0
        observation, reward, done, truncated, info = env.step(int(rng.choice(np.flatnonzero(mask))))
        assert not truncated
        trace.append((observation, reward, info))
    return trace


def same(a, b, tolerance=0.0):
    """Compare two rollouts; `tolerance` is that of observations."""
    for (oa, ra, ia), (ob, rb, ib) in zip(a, b, strict=True):
        assert np.abs(oa - ob).max() <= tolerance and ra == rb and ia.keys() == ib.keys()
        for key in ia:
            assert np.array_equal(ia[key], ib[key]) if isinstance(ia[key], np.ndarray) else ia[key] == ib[key], key


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_checker(name, toy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name, task="toy-4site", render_mode="rgb_array", disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_stable_baselines_checker(name, toy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(gym.make(name, task="toy-4site", render_mode="rgb_array"))


@pytest.mark.parametrize("name", IDS)
def test_return_is_the_objective_minus_penalties(name, toy, toy_values):
    env = gym.make(name, task="toy-4site")
    for seed in range(5):
        trace = rollout(env, seed)
        final = trace[-1][2]
        total = sum(reward for _, reward, _ in trace)
        placement = tuple(int(o) for o in final["placement"])
        assert total == pytest.approx(toy_values[placement], abs=1e-6)
        assert final["objective"] == pytest.approx(toy_values[placement], abs=1e-12)
        assert all((np.abs(o) <= 5).all() and o.dtype == np.float32 for o, _, _ in trace)


@pytest.mark.parametrize("kwargs", [{"reward": "terminal"}, {"feedback": "reset"}])
def test_terminal_rewards_pay_the_same_return(kwargs, toy, toy_values):
    trace = rollout(gym.make("CiMCompensation-v0", task="toy-4site", **kwargs), 3)
    placement = tuple(int(o) for o in trace[-1][2]["placement"])
    assert [r for _, r, _ in trace[:-1]] == [0.0] * (len(trace) - 1)
    assert trace[-1][1] == pytest.approx(toy_values[placement], abs=1e-9)


def test_feedback_reset_shows_no_evaluation_of_a_block(toy):
    trace = rollout(gym.make("CiMCompensation-v0", task="toy-4site", feedback="reset"), 1)
    names = CompensationEnv(task="toy-4site").layout.names
    errors = [k for k, name in enumerate(names) if name.split(".")[-1] in ("error_mean", "snr", "cosine", "score")]
    first = trace[0][0][errors]
    assert all((observation[errors] == first).all() for observation, _, _ in trace)
    assert all(info["accuracy"] == trace[0][2]["accuracy"] for _, _, info in trace[:-1])
    assert all(info["evaluations"] == 1 for _, _, info in trace[:-1])


@pytest.mark.parametrize("name", IDS)
def test_cache_hit_and_miss_give_the_same_trajectory(name, tmp_path):
    def made():
        return gym.make(name, task=QUICK, store=str(tmp_path), reset_hooks=[_short("standard"), _short("noise")])

    cold = made()
    traces, states = [], []
    for env in (cold, cold, made()):
        traces.append(rollout(env, 5))
        states.append(env.unwrapped.np_random.bit_generator.state)
    same(traces[0], traces[1])
    same(traces[0], traces[2])
    assert states[0] == states[1] == states[2]


def test_masked_actions_are_noops_with_a_penalty(toy):
    env = gym.make("CiMCompensation-v0", task="toy-4site", invalid_penalty=0.25)
    env.reset(seed=0)
    _, _, _, _, info = env.step(1)
    assert not info["invalid_action"] and info["action_mask"].tolist() == [1, 0, 0, 1, 1, 1, 1, 1, 1]
    _, reward, done, _, after = env.step(2)
    assert after["invalid_action"] and reward == -0.25 and not done
    assert (after["placement"] == info["placement"]).all() and after["evaluations"] == info["evaluations"]


def test_invalid_action_raise_and_out_of_space(toy):
    env = gym.make("CiMCompensation-v0", task="toy-4site", invalid_action="raise", disable_env_checker=True)
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(InvalidActionError, match="masked"):
        env.step(1)
    for action in (9, -1, 1.5, None):
        with pytest.raises(InvalidActionError, match="outside"):
            env.unwrapped.step(action)


def test_step_before_reset_and_after_the_end(toy):
    env = CompensationEnv(task="toy-4site")
    with pytest.raises(EpisodeError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(EpisodeError, match="reset"):
        env.step(0)


def test_episode_ends(toy):
    env = CompensationEnv(task="toy-4site", max_steps=2, reward="terminal", invalid_penalty=0.0)
    env.reset(seed=0)
    assert env.step(1)[2] is False
    _, reward, ended, _, info = env.step(1)  # masked, but the last step: it pays the terminal reward
    assert ended and reward == pytest.approx(info["objective"])
    full = CompensationEnv(task="toy-4site")
    full.reset(seed=0)
    assert [full.step(1 + 2 * s)[2] for s in range(4)] == [False, False, False, True]
    poor = CompensationEnv(task={"extends": "toy-4site", "budget": {"weights": 0.0}})
    _, info = poor.reset(seed=0)
    assert info["action_mask"].tolist() == [1] + [0] * 8
    assert poor.step(0)[2] is True  # stop is always valid, even where nothing is affordable


def test_walk_places_nothing_unaffordable(toy):
    env = gym.make("CiMCompensationWalk-v0", task={"extends": "toy-4site", "budget": {"weights": 0.012}})
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [1, 1, 1]
    for action in (1, 2, 2, 1):
        _, _, done, _, info = env.step(action)
    assert done and info["placement"].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"task": "toy-5site"},
        {"reward": "sparse"},
        {"feedback": "never"},
        {"invalid_action": "ignore"},
        {"render_mode": "svg"},
        {"reset_hooks": ["lipschits"]},
    ],
)
def test_unknown_names(kwargs):
    with pytest.raises(UnknownNameError, match="known"):
        CompensationEnv(**kwargs)


def test_too_few_sites_and_unknown_reset_option(toy):
    for wrong, words in (
        ({"invalid_penalty": float("nan")}, "invalid_penalty: got nan; give a finite number of at least 0"),
        ({"invalid_penalty": -1}, "invalid_penalty: got -1"),
        ({"max_steps": 1.5}, "max_steps: got 1.5; give an int of at least 1"),
        ({"max_sites": "a"}, "max_sites: got 'a'"),
        ({"evaluator": "toy"}, "evaluator: got 'toy'; give one of cimenv.tasks"),
        ({"reset_hooks": [3]}, "reset_hooks: got 3; give names of recipes"),
    ):
        with pytest.raises(ConfigError, match=words):
            CompensationEnv("toy-4site", **wrong)
    with pytest.raises(ConfigError, match=r"reset_hooks: .* returned a NoneType; return the episode's task"):
        CompensationEnv("toy-4site", reset_hooks=[lambda task, generator: None]).reset(seed=0)
    with pytest.raises(ConfigError, match="max_sites"):
        CompensationEnv(task="toy-4site", max_sites=3)
    with pytest.raises(ConfigError, match="unknown key"):
        CompensationEnv(task="toy-4site").reset(options={"recipes": "noise"})


def test_padding_sites(toy):
    env = CompensationEnv(task="toy-4site", max_sites=6)
    observation, info = env.reset(seed=0)
    assert info["placement"].tolist() == [0, 0, 0, 0, -1, -1]
    assert info["action_mask"].tolist() == [1] + [1] * 8 + [0] * 4
    fields = len(env.layout.site_fields)
    assert (observation[4 * fields : 6 * fields] == 0).all() and observation[0] == 1.0
    assert len(env.layout.names) == len(observation)


def test_reset_hooks_train_each_recipe_once(tmp_path, monkeypatch):
    fitted = []
    original = Recipe.fit

    def spy(self, *rest):
        fitted.append(self.name)
        return original(self, *rest)

    monkeypatch.setattr(Recipe, "fit", spy)
    recipes = ["standard", "noise", "lipschitz"]
    digests = {}
    for attempt in ("cold", "warm"):
        env = CompensationEnv(task=QUICK, reset_hooks=[_short(name) for name in recipes], store=str(tmp_path))
        for seed in range(12):
            env.reset(seed=seed)
            scenario = env.episode.scenario
            digests[scenario.task.recipe.name] = scenario.evaluator.problem.weights_digest
        assert sorted(fitted) == ["lipschitz", "noise", "standard"], attempt  # the last is the reference of all, too
    assert len(set(digests.values())) == 3


def _short(name):
    def hook(task, generator):
        return task.with_changes(recipe={"name": name, "epochs": 1})

    return hook


def test_reset_option_holds_until_the_next_options(toy):  # whose reference is the recipe with its default settings
    env = CompensationEnv(task=QUICK, store=toy.store)
    kept = [env.reset(seed=0, options={"recipe": "standard"}), env.reset()]
    assert env.episode.scenario.task.recipe.name == "standard" and env.episode.scenario.task.recipe.epochs == 10
    env.reset(options={"recipe": None})
    assert env.episode.scenario.task.recipe.epochs == 1
    assert len(kept) == 2


def test_hooks_must_not_change_the_spaces():
    env = CompensationEnv(task=QUICK, reset_hooks=[lambda task, _: task.model_copy(update={"options": {}})])
    with pytest.raises(ConfigError, match="spaces"):
        env.reset(seed=0)


def test_fork_branches_the_whole_stack(toy):
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("CiMCompensation-v0", task="toy-4site"))
    env.reset(seed=0)
    env.step(1)
    twin = cimenv.fork(env)
    a = [twin.step(action)[:3] for action in (4, 0)]
    assert env.unwrapped.episode.placement == (1, 0, 0, 0)
    b = [env.step(action)[:3] for action in (4, 0)]
    for (oa, ra, da), (ob, rb, db) in zip(a, b, strict=True):
        assert (oa == ob).all() and ra == rb and da == db
    assert twin.unwrapped.scenarios is env.unwrapped.scenarios
    assert copy.deepcopy(env).unwrapped.np_random.bit_generator.state == env.unwrapped.np_random.bit_generator.state


def test_renders(toy):
    env = gym.make("CiMCompensation-v0", task="toy-4site", render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    text = env.render()
    assert "full 0.5" in text and "conv1" in text and "accuracy" in text
    pixels = gym.make("CiMCompensation-v0", task="toy-4site", render_mode="rgb_array")
    pixels.reset(seed=0)
    picture = pixels.render()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 5
    import matplotlib

    matplotlib.use("agg")
    human = gym.make("CiMCompensation-v0", task="toy-4site", render_mode="human")
    human.reset(seed=0)
    assert human.render() is None


def test_spec_is_json_and_qualified_names_work(toy):
    env = gym.make("cimenv:CiMCompensation-v0", task="toy-4site")
    assert "toy-4site" in env.spec.to_json()
    assert env.spec.max_episode_steps is None


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_environments_with_default_arguments(mode):
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.randn(64, 8, 32, 32), torch.randn(8, 8, 3, 3))  # starts OpenMP's threads
    env = gym.make_vec("CiMCompensation-v0", num_envs=2, vectorization_mode=mode)
    observations, infos = env.reset(seed=0)
    assert observations.shape == (2, CompensationEnv().layout.size)
    for action in (1, 4, 0):
        observations, rewards, ended, _, infos = env.step(np.full(2, action))
    assert ended.tolist() == [True, True] and rewards[0] == rewards[1]
    assert infos["action_mask"].shape == (2, 16)
    env.close()


def test_stable_baselines_vec_env_and_statistics(toy):
    venv = make_vec_env("CiMCompensation-v0", n_envs=2, env_kwargs={"task": "toy-4site"})
    venv.reset()
    _, rewards, _, infos = venv.step(np.array([1, 1]))
    assert rewards[0] == rewards[1] and not infos[0]["invalid_action"]
    venv.close()
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("CiMCompensation-v0", task="toy-4site"))
    trace = rollout(env)
    assert trace[-1][2]["episode"]["r"] == pytest.approx(sum(reward for _, reward, _ in trace), abs=1e-6)


def test_table_environment_equals_the_real_one(toy, tmp_path):
    enumerate_placements(toy.task, tmp_path / "t.csv", store=toy.store, compute=Compute(1))
    tabular = CompensationEnv(evaluator=TableEvaluator(tmp_path / "t.csv"))
    real = CompensationEnv(task="toy-4site")
    for seed in range(3):
        same(rollout(real, seed, stop=True), rollout(tabular, seed, stop=True), tolerance=1e-5)  # errors: 6 digits


def test_budget_of_evaluations(toy):
    env = EvaluationBudget(gym.make("CiMCompensation-v0", task="toy-4site"), 12)
    for seed in range(20):
        trace = rollout(env, seed)
    assert env.spent == 12
    assert all(info["run_evaluations"] == 12 for _, _, info in trace)
    env.reset(seed=0)
    unknown = next(a for a in range(1, 9) if env.inner.action_masks()[a] and not env.action_masks()[a])
    _, reward, _, _, info = env.step(unknown)
    assert info["invalid_action"] and reward == pytest.approx(-0.05) and env.spent == 12


def test_budget_counts_only_what_was_evaluated():
    env = EvaluationBudget(gym.make("CiMCompensation-v0", task="toy-4site", feedback="reset"), 10)
    trace = rollout(env, 1)
    final = tuple(int(o) for o in trace[-1][2]["placement"])
    assert [placement for _, placement in env.known] == [(0, 0, 0, 0), final]
    assert trace[-1][2]["evaluations"] == 2
    bare = EvaluationBudget(CompensationEnv(task="toy-4site"), 5)
    bare.reset(seed=0)
    with pytest.raises(InvalidActionError):
        bare.step(99)


@pytest.mark.filterwarnings("ignore:Waiting for another process")
def test_async_workers_train_on_a_cold_store(tmp_path):
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.randn(64, 8, 32, 32), torch.randn(8, 8, 3, 3))
    env = gym.make_vec("CiMCompensation-v0", 2, "async", task=QUICK, store=str(tmp_path))
    _, infos = env.reset(seed=0)
    assert infos["accuracy"][0] == infos["accuracy"][1]  # one trained, the other waited for it
    env.close()


def test_first_reset_of_the_default_task_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "fit", lambda *a: pytest.fail("a recipe ran"))
    monkeypatch.setattr("cimenv.tasks.stages.blocks.fit_bank", lambda *a: pytest.fail("the bank was fitted"))
    env = CompensationEnv(store=str(tmp_path))
    _, info = env.reset(seed=0)
    assert 0.70 < info["accuracy"] < 0.80 < info["clean_accuracy"] < info["reference_accuracy"] < 0.90


def test_first_script_of_every_sb3_user(toy, tmp_path):
    from stable_baselines3 import PPO

    env = gym.make("CiMCompensation-v0", task="toy-4site")
    model = PPO("MlpPolicy", env, gamma=1.0, tensorboard_log=str(tmp_path), n_steps=64, device="cpu", seed=0)
    model.learn(128)
    assert any(tmp_path.rglob("events.out.tfevents.*"))


def test_percentile_statistic(toy):
    task = load_task("toy-4site", ["statistic=percentile", "chips=60"])
    evaluator = MonteCarloEvaluator(task)
    env = CompensationEnv(evaluator=evaluator)
    _, info = env.reset(seed=0)
    found = evaluator.evaluate((0, 0, 0, 0))
    assert info["accuracy"] == info["percentile_accuracy"] == np.sort(found.accuracy)[2]  # ceil(.05 * 60) = 3rd
