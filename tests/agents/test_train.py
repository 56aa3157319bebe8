"""The trainer: it solves the toy task, twice the same; every algorithm runs; a run writes into its folder only."""

import csv
import json
import math
import tempfile
import time

import pytest
import yaml
from agent_runs import TOY, series

from agents.algorithms import ALGORITHMS
from agents.config import load_config
from agents.hyper_parameters import checked
from agents.run_folder import write_placements
from agents.train import main, train
from cimenv.core.errors import ConfigError
from cimenv.tasks import Objective

YAML = "configs/agents/maskable_ppo.yaml"
LONG = [*TOY, "steps=3000", "evaluations=60", "images_every=100"]


def test_maskable_ppo_finds_the_optimum_of_the_toy_task_twice_the_same(toy, toy_values, tmp_path, assert_same_runs):
    config = load_config(YAML, LONG)
    start = time.monotonic()
    runs = [train(config, tmp_path / name, toy) for name in "ab"]
    assert time.monotonic() - start < 120
    assert runs[0].final == runs[1].final and runs[0].best == runs[1].best
    assert_same_runs(tmp_path / "a", tmp_path / "b")
    optimum = max(toy_values, key=lambda p: toy_values[p])
    assert runs[0].best == optimum
    assert toy_values[runs[0].final] >= toy_values[optimum] - 0.01
    assert runs[0].evaluations <= 60

    curves = series(tmp_path / "a")
    last = {tag: values[-1][1] for tag, values in curves.items() if tag.startswith("policy/") and "heat" not in tag}
    assert sum(last.values()) == pytest.approx(1.0, abs=1e-5)
    assert curves["placement/best_objective"][-1][1] == pytest.approx(toy_values[optimum], abs=1e-6)
    assert curves["final/objective"][-1][1] == pytest.approx(toy_values[runs[0].final], abs=1e-6)
    assert curves["search/best_objective"][-1][0] == runs[0].evaluations  # the axis counts evaluations

    rows = list(csv.DictReader((tmp_path / "a/placements.csv").read_text().splitlines()))
    assert len(rows) == runs[0].evaluations
    assert float(rows[-1]["best_so_far"]) == pytest.approx(toy_values[runs[0].best])
    result = json.loads((tmp_path / "a/result.json").read_text())
    assert result["best"] == list(runs[0].best)
    assert result["final_objective"] == pytest.approx(toy_values[runs[0].final], abs=1e-12)
    assert yaml.safe_load((tmp_path / "a/config.yaml").read_text())["name"] == "toy"


@pytest.mark.parametrize("algorithm", ["maskable_ppo", "maskable_ppo_sites", "ppo", "dqn", "a2c"])
def test_every_algorithm_trains_and_leaves_nothing_elsewhere(algorithm, toy, toy_values, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    config = load_config(f"configs/agents/{algorithm}.yaml", [*TOY, "steps=300", "evaluations=30"])
    assert config.hyper_parameters["gamma"] == 1.0
    agent = train(config, tmp_path / "run", toy)
    assert agent.evaluations <= 30
    assert toy_values[agent.best] >= toy_values[agent.final]
    assert list(temporary.iterdir()) == []
    names = {path.name.split(".tfevents")[0] for path in (tmp_path / "run").iterdir()}
    always = {"config.yaml", "model.zip", "progress.csv", "events.out", "placements.csv", "result.json"}
    assert always <= names <= {*always, "checkpoint", ".lock"}
    rows = list(csv.DictReader((tmp_path / "run/progress.csv").read_text().splitlines()))
    assert not any(row["metric"].startswith("time/") for row in rows)
    assert len({(row["step"], row["metric"]) for row in rows}) == len(rows)
    spent = [float(row["value"]) for row in rows if row["metric"] == "placement/evaluations"]
    assert spent == sorted(spent) and spent[-1] == agent.evaluations


def test_best_is_of_the_task_itself_and_the_lighter_among_equals(toy, tmp_path):
    objective, key = Objective.of(toy), toy.task.key
    weights = {p: toy.space.shares(p)["weights"] for p in [(1, 0, 0, 0), (0, 0, 0, 2)]}
    light, heavy = sorted(weights, key=lambda p: weights[p])
    known = {(key, (0, 0, 0, 0)): 0.0, ("a hook's task", (2, 2, 2, 2)): 9.0, (key, heavy): 0.1, (key, light): 0.1}
    assert write_placements(tmp_path / "placements.csv", known, objective) == (light, 0.1)
    rows = list(csv.DictReader((tmp_path / "placements.csv").read_text().splitlines()))
    assert [float(row["best_so_far"]) for row in rows] == [0.0, 0.0, 0.1, 0.1]


def test_walk_trains_too(toy, toy_values, tmp_path):
    small = ["env=CiMCompensationWalk-v0", "steps=200", "evaluations=30", "hyper_parameters.n_steps=64"]
    agent = train(load_config(YAML, [*TOY, *small]), tmp_path, toy)
    assert toy_values[agent.best] >= toy_values[agent.final]


@pytest.mark.parametrize(
    ("algorithm", "given", "says"),
    [
        ("maskable_ppo", {"n_stepz": 3}, "n_stepz: unknown key (got 3); known: learning_rate, n_steps"),
        ("maskable_ppo", {"learning_rate": "fast"}, "learning_rate: got 'fast'; input should be a valid number"),
        ("ppo", {"learning_rate": -1}, "learning_rate: got -1; input should be greater than 0"),
        ("ppo", {"learning_rate": math.nan}, "learning_rate: got nan; input should be a finite number"),
        ("ppo", {"n_steps": 10**12}, "n_steps: got 1000000000000; input should be less than or equal to 1000000"),
        ("ppo", {"n_steps": 8.0}, "n_steps: got 8.0; input should be a valid integer"),
        ("ppo", {"gamma": True}, "gamma: got True; input should be a valid number"),
        ("ppo", {"gamma": 1.5}, "gamma: got 1.5; input should be less than or equal to 1"),
        ("ppo", {"clip_range": [1]}, "clip_range: got [1]; input should be a valid number"),
        ("ppo", {"normalize_advantage": "yes"}, "normalize_advantage: got 'yes'; input should be a valid boolean"),
        ("ppo", {"policy_kwargs": 3}, "policy_kwargs: got 3; input should be a valid dictionary"),
        (
            "ppo",
            {"policy_kwargs": {"net_arch": [10**9]}},
            "policy_kwargs: got a size of 1000000000; take at most 16384",
        ),
        ("ppo", {"device": "cuda"}, "device: unknown key"),  # the run's own
        ("dqn", {"train_freq": 0}, "train_freq: got 0; input should be greater than or equal to 1"),
        ("dqn", {"train_freq": [1, "day"]}, "train_freq: got"),
        ("dqn", {"buffer_size": -1}, "buffer_size: got -1; input should be greater than or equal to 1"),
    ],
)
def test_hyper_parameters_are_checked_against_the_algorithms_signature(algorithm, given, says):
    with pytest.raises(ConfigError) as caught:
        checked(ALGORITHMS[algorithm], given)
    assert str(caught.value).startswith(f"hyper_parameters.{says}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["maskable_ppo", "maskable_ppo_sites", "ppo", "dqn", "a2c"])
def test_shipped_hyper_parameters_stay_as_they_are(name):
    config = load_config(f"configs/agents/{name}.yaml", [])
    assert checked(ALGORITHMS[config.algorithm], config.hyper_parameters) == config.hyper_parameters


def test_bad_configurations(tmp_path, capsys):
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(YAML, ["sead=1"])
    with pytest.raises(ConfigError, match="evaluations"):
        load_config(YAML, ["evaluations=0"])
    with pytest.raises(ConfigError, match="algorithm"):
        load_config(YAML, ["algorithm=sac"])
    for changes in ("algorithm=ppo", "env=CiMCompensationWalk-v0"):
        with pytest.raises(ConfigError, match="policy sites is for maskable_ppo on CiMCompensation-v0; use mlp"):
            load_config(YAML, ["policy=sites", changes])
    with pytest.raises(ConfigError, match="name"):
        load_config(YAML, ["name=../elsewhere"])
    with pytest.raises(ConfigError, match=r"hyper_parameters: .*; use arguments of maskable_ppo"):
        train(load_config(YAML, [*TOY, "hyper_parameters={policy_kwargs: {net_arch: [many]}}"]), tmp_path / "many")
    with pytest.raises(ConfigError, match=r"env_arguments: .*use arguments of CiMCompensation-v0"):
        train(load_config(YAML, [*TOY, "env_arguments.taks=1"]), tmp_path / "taks")
    with pytest.raises(ConfigError, match=r"env_arguments: .*use arguments of CiMCompensation-v0"):
        train(load_config(YAML, [*TOY, "env_arguments.max_episode_steps=many"]), tmp_path / "steps")
    assert main([str(tmp_path / "none.yaml")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "Cannot read" in shown.err
