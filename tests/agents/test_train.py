"""The first agent: it solves the toy task, twice the same, and writes its run folder."""

import csv
import json
import time

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.config import load_config
from agents.train import main, train
from cimenv.core.errors import ConfigError

YAML = "configs/agents/maskable_ppo.yaml"
TOY = ["env_arguments.task=toy-4site", "task_overrides=[]", "steps=3000", "evaluations=60", "name=toy"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_maskable_ppo_finds_the_optimum_of_the_toy_task_twice_the_same(toy, toy_values, tmp_path):
    config = load_config(YAML, TOY)
    start = time.monotonic()
    runs = [train(config, tmp_path / name, toy) for name in "ab"]
    assert runs[0].final == runs[1].final and runs[0].best == runs[1].best
    assert (tmp_path / "a/placements.csv").read_bytes() == (tmp_path / "b/placements.csv").read_bytes()
    optimum = max(toy_values, key=lambda p: toy_values[p])
    assert runs[0].best == optimum
    assert toy_values[runs[0].final] >= toy_values[optimum] - 0.01
    assert runs[0].evaluations <= 60
    assert time.monotonic() - start < 120

    events = EventAccumulator(str(tmp_path / "a"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    for name in ("return", "accuracy", "cost", "evaluations", "best_objective"):
        assert f"placement/{name}" in tags["scalars"]
    assert "policy/stop" in tags["scalars"] and "policy/conv1/affine" in tags["scalars"]
    assert tags["images"] == ["policy/heatmap"]
    last = {tag: events.Scalars(tag)[-1].value for tag in tags["scalars"] if tag.startswith("policy/")}
    assert sum(last.values()) == pytest.approx(1.0, abs=1e-5)
    assert events.Scalars("placement/best_objective")[-1].value == pytest.approx(toy_values[optimum], abs=1e-6)

    rows = list(csv.DictReader((tmp_path / "a/placements.csv").read_text().splitlines()))
    assert len(rows) == runs[0].evaluations
    assert float(rows[-1]["best_so_far"]) == pytest.approx(toy_values[runs[0].best])
    assert json.loads((tmp_path / "a/result.json").read_text())["best"] == list(runs[0].best)
    assert yaml.safe_load((tmp_path / "a/config.yaml").read_text())["name"] == "toy"


def test_bad_configurations(tmp_path, capsys):
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(YAML, ["sead=1"])
    with pytest.raises(ConfigError, match="evaluations"):
        load_config(YAML, ["evaluations=0"])
    assert main([str(tmp_path / "none.yaml")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "Cannot read" in shown.err
