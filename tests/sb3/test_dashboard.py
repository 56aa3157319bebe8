"""The dashboard: every promised curve and picture is there, with the right numbers, and explained."""

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from cimenv.core.errors import ConfigError
from cimenv.sb3 import PlacementCallback, deterministic_rollout, placement_of
from cimenv.sb3.figures import heat_map
from cimenv.sb3.history import History
from cimenv.sb3.views import ActionView

README = Path(__file__).parents[2] / "docs/guide/agents.md"
SITES = ("conv1", "conv2", "fc1", "fc2")
OPTIONS = {
    "conv1": ("full 0.5", "digital 1"),
    "conv2": ("full 0.5", "digital 1"),
    "fc1": ("low_rank 0.125", "digital 1"),
    "fc2": ("low_rank 0.125", "digital 1"),
}
PPO_SMALL = {"n_steps": 64, "n_epochs": 1, "gamma": 1.0, "seed": 0, "device": "cpu"}


def logged(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def action_tags(kind):
    return {f"{kind}/stop", *(f"{kind}/{site}/{option}" for site in SITES for option in OPTIONS[site])}


COMMON = {
    *(f"placement/{name}" for name in ("return", "accuracy", "cost", "episode_length", "invalid_actions")),
    *("placement/evaluations", "placement/best_objective", "search/best_objective", "search/best_accuracy"),
    *(f"sites/{site}" for site in SITES),
    *(f"errors/{site}/{when}" for site in SITES for when in ("none", "placed")),
    *("training/standard/loss", "training/standard/val_accuracy"),
    *(f"final/{name}" for name in ("best_objective", "objective", "accuracy", "cost", "evaluations")),
}


@pytest.fixture(scope="module")
def ppo_run(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ppo")
    env = make_vec_env("CiMCompensation-v0", 2, env_kwargs={"evaluator": toy})
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    model.set_logger(configure(str(folder), ["tensorboard", "csv"]))
    callback = PlacementCallback(every=128)
    model.learn(500, callback=callback)
    model.logger.close()
    return folder, callback, model


@pytest.fixture(scope="module")
def dqn_run(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dqn")
    model = DQN("MlpPolicy", gym.make("CiMCompensation-v0", evaluator=toy), learning_starts=20, seed=0, device="cpu")
    model.set_logger(configure(str(folder), ["tensorboard"]))
    model.learn(300, callback=PlacementCallback(every=100))
    model.logger.close()
    return folder


def test_every_curve_and_picture_of_a_policy_gradient_run(ppo_run, toy_values):
    folder, callback, model = ppo_run
    events = logged(folder)
    scalars = set(events.Tags()["scalars"])
    ours = {tag for tag in scalars if tag.split("/")[0] not in ("rollout", "train", "time")}
    assert ours == COMMON | action_tags("policy")
    pictures = {"policy/heatmap", "search/pareto", "errors/bars", "placement/network"}
    assert set(events.Tags()["images"]) == pictures
    assert all(len(events.Images(tag)) == 2 for tag in pictures)  # the first and the last report

    def value(tag):
        return events.Scalars(tag)[-1].value

    assert sum(value(tag) for tag in action_tags("policy")) == pytest.approx(1.0, abs=1e-5)
    # The history notes the placement of every step; the environment's objective is the toy table's.
    seen = {p: point.objective for p, point in callback.history.of_task.items()}
    assert seen == {p: pytest.approx(toy_values[p], abs=1e-12) for p in seen}
    assert value("placement/best_objective") == pytest.approx(max(seen.values()), abs=1e-6)
    assert value("final/evaluations") == len(seen) == len(callback.history.points)
    search = events.Scalars("search/best_objective")
    assert [e.step for e in search] == list(range(1, len(seen) + 1))  # two environments begin with one placement
    assert [e.value for e in search] == pytest.approx(np.maximum.accumulate(list(seen.values())), abs=1e-6)
    accuracies = [point.accuracy for point in callback.history.of_task.values()]
    found = [e.value for e in events.Scalars("search/best_accuracy")]
    assert found == pytest.approx(np.maximum.accumulate(accuracies), abs=1e-6)
    assert all(0 <= value(f"sites/{site}") <= 1 for site in SITES)
    assert all(e.wall_time > 0 and e.step <= model.num_timesteps for e in events.Scalars("placement/return"))


def test_errors_are_those_of_the_last_placement(ppo_run, toy):
    folder, callback, _ = ppo_run
    events = logged(folder)
    for when, placement in (("none", (0, 0, 0, 0)), ("placed", callback.history.last)):
        expected = toy.evaluate(placement).site_errors[:, 0]
        found = [events.Scalars(f"errors/{site}/{when}")[-1].value for site in SITES]
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_dqn_shows_q_values_and_no_probabilities(dqn_run):
    events = logged(dqn_run)
    scalars = set(events.Tags()["scalars"])
    assert action_tags("q") | COMMON | {"q/greedy_action"} <= scalars
    assert not any(tag.startswith("policy/") for tag in scalars)
    assert "q/heatmap" in events.Tags()["images"]
    names = ["q/stop", *(f"q/{site}/{option}" for site in SITES for option in OPTIONS[site])]
    values = [events.Scalars(tag)[-1].value for tag in names]
    assert events.Scalars("q/greedy_action")[-1].value == int(np.argmax(values))


def test_hparams_and_custom_scalars(ppo_run):
    events = logged(ppo_run[0])
    experiment = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    parsed = metadata.parse_experiment_plugin_data(experiment)
    metrics = {info.name.tag for info in parsed.metric_infos}
    assert metrics == {f"final/{n}" for n in ("best_objective", "objective", "accuracy", "cost", "evaluations")}
    assert metrics <= set(events.Tags()["scalars"])
    assert {"algorithm", "task", "learning_rate", "gamma"} <= {info.name for info in parsed.hparam_infos}
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for group in (b"learning", b"policy", b"sites", b"errors", b"errors/fc2/placed"):
        assert group in layout


def test_every_metric_is_in_the_glossary(ppo_run, dqn_run, toy, tmp_path):
    rows = re.findall(r"^\| `([a-z]\w*/[^`]+)` \| (scalar|image) \|", README.read_text(), re.MULTILINE)
    patterns = [
        re.compile(re.escape(tag).replace("SITE", "[^/]+").replace("OPTION", "[^/]+").replace("RECIPE", "[^/]+") + "$")
        for tag, _ in rows
    ]
    model = MaskablePPO("MlpPolicy", gym.make("CiMCompensation-v0", evaluator=toy), **PPO_SMALL)
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(128, callback=PlacementCallback())
    model.logger.close()
    tags = {tag for folder in (ppo_run[0], dqn_run, tmp_path) for kind in ("scalars", "images")
            for tag in logged(folder).Tags()[kind]}  # fmt: skip
    missing = [tag for tag in tags if not tag.startswith("time/") and not any(p.match(tag) for p in patterns)]
    assert missing == [] and len(tags) > 60
    unused = [p.pattern for p in patterns if not any(p.match(tag) for tag in tags)]
    # A2C's own loss, and what SB3 keeps out of TensorBoard.
    assert unused == ["train/policy_loss$", "train/n_updates$"]


def test_it_runs_without_tensorboard_and_on_walk(toy):
    env = gym.make("CiMCompensationWalk-v0", evaluator=toy)
    callback = PlacementCallback()
    model = MaskablePPO("MlpPolicy", env, **PPO_SMALL)
    model.learn(128, callback=callback)
    assert callback.names == [("conv1", "full 0.5"), ("conv1", "digital 1")]
    infos = deterministic_rollout(model, env)
    assert len(infos) == 1 + 4  # reset, then one decision a site
    assert placement_of(infos[0]) == (0, 0, 0, 0)


def test_another_environment_is_refused():
    with pytest.raises(ConfigError, match="no placement environment"):
        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").learn(8, callback=PlacementCallback())
    with pytest.raises(ConfigError, match="every"):
        PlacementCallback(every=0)


def test_the_history_survives_json(ppo_run):
    _, callback, _ = ppo_run
    state = callback.state()
    text = json.dumps(state, allow_nan=False)
    assert History.from_state(json.loads(text)["history"]) == callback.history
    twin = PlacementCallback()
    twin.restore(json.loads(text))
    assert twin.state() == state


def test_only_the_task_itself_competes_for_the_best():
    def info(task, placement, objective):
        cost = {"scalar": 0.1, "weights": float(sum(placement))}
        shown = {"placement": np.array(placement), "objective": objective, "accuracy": 0.5, "cost": cost}
        return {**shown, "task_key": task, "evaluated": True, "invalid_action": False}

    history = History("ours")
    history.start([info("ours", (0, 0), 0.0)])
    assert history.step(0, 1.0, False, info("theirs", (2, 2), 9.0))
    assert history.best == (0, 0) and len(history.points) == 2
    assert history.step(0, 0.5, False, info("ours", (2, 0), 0.3))
    assert history.step(0, 0.5, True, info("ours", (1, 0), 0.3))  # as good with fewer weights
    assert not history.step(0, 0.5, False, info("ours", (1, 0), 0.3))
    assert history.best == (1, 0) and history.last == (1, 0)
    assert history.means()["return"] == 2.0 and history.means()["episode_length"] == 3.0
    assert history.site_shares() == [1.0, 0.0]


def test_heat_map_shows_every_number():
    names = [("conv", "affine"), ("conv", "full 0.5"), ("dense", "affine"), ("dense", "option 2")]
    view = ActionView("policy", np.array([0.1, 0.2, 0.05, 0.6, 0.05]))
    axes = heat_map(names, view, 7).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "affine\n0.20",
        "full 0.5\n0.05",
        "affine\n0.60",
        "option 2\n0.05",
    ]
    assert "favourite dense affine" in axes.get_title() and "action 0: 0.10" in axes.get_title()
