"""agents.evaluate: its numbers, and one sentence for everything that may be wrong with a run's folder."""

import json
import shutil

import numpy as np
import pytest
import yaml
from agent_runs import TOY

from agents.algorithms import before_opening
from agents.config import load_config
from agents.evaluate import evaluate, main
from agents.train import train
from cimenv.tasks import MonteCarloEvaluator, Objective, load_task

QUICK = ["report_chips=6", "tuned.steps=5"]


@pytest.fixture(scope="module")
def judge(toy):
    return MonteCarloEvaluator(load_task("toy-4site", QUICK))


@pytest.fixture(scope="module")
def made(judge, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("runs") / "toy-0"
    overrides = [*TOY, f"task_overrides=[{', '.join(QUICK)}]", "steps=300", "evaluations=20", "images_every=100"]
    path = request.config.rootpath / "configs/agents/dqn.yaml"
    return train(load_config(path, overrides), folder, judge)


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "toy-0")
    return tmp_path / "toy-0"


def test_numbers_are_those_of_the_evaluator(run, made, judge, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # so that no word of the table is broken
    assert main([str(run)]) == 0
    shown = capsys.readouterr().out
    assert "no blocks" in shown and "final policy" in shown and "best seen" in shown
    report = json.loads((run / "evaluation.json").read_text())
    assert (report["split"], report["fidelity"], report["chips"], report["images"]) == ("test", "tuned", 6, 2000)
    rows = report["placements"]
    assert tuple(rows["final"]["placement"]) == made.final and tuple(rows["best"]["placement"]) == made.best
    objective, tested = Objective.of(judge), judge.evaluate(made.best, "test", "tuned")
    none, best = judge.evaluate((0, 0, 0, 0), "test", "tuned"), rows["best"]
    assert best["objective_val_bank"] == pytest.approx(objective.value(judge.evaluate(made.best)), abs=1e-12)
    assert best["mean"] == tested.accuracy.mean() and best["percentile_05"] == tested.accuracy.min()  # of 6 chips
    acc_ref = judge.reference_accuracy("test")
    assert best["of_reference"] == pytest.approx(best["mean"] / acc_ref)
    assert best["of_loss"] == pytest.approx((best["mean"] - none.accuracy.mean()) / (acc_ref - none.accuracy.mean()))
    # Student's t of 5 degrees of freedom: 2.5706 (tables), standard error of six paired differences.
    paired = tested.accuracy - none.accuracy
    half = 2.570582 * paired.std(ddof=1) / np.sqrt(6)
    assert best["difference"]["mean"] == pytest.approx(paired.mean())
    assert best["difference"]["interval"] == pytest.approx([paired.mean() - half, paired.mean() + half], abs=1e-6)
    assert rows["none"]["difference"]["mean"] == 0.0 and rows["none"]["of_loss"] == 0.0
    assert best["cost"]["macs"] == judge.space.shares(made.best)["macs"]


def test_json_goes_to_standard_output(run, capsys):
    assert main([str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "evaluation.json").read_text())


def test_best_is_the_largest_objective_of_the_placements_file(run, made, judge):
    lines = (run / "placements.csv").read_text().splitlines()
    lines = [line for line in lines if " ".join(map(str, made.best)) not in line]
    (run / "placements.csv").write_text("\n".join(lines) + "\n")
    objectives = {line.split(",")[2]: float(line.split(",")[3]) for line in lines[1:]}
    # The final rollout may reach the removed placement again; it is judged, but it is not what the file says was seen.
    found = tuple(evaluate(run, judge)["placements"]["best"]["placement"])
    assert objectives[" ".join(map(str, found))] == max(objectives.values())


def no_run(run):
    (run / "config.yaml").unlink()


def unfinished(run):
    (run / "result.json").unlink()


def cut_model(run):
    (run / "model.zip").write_bytes((run / "model.zip").read_bytes()[:5000])


def flipped_model(run):
    data = bytearray((run / "model.zip").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (run / "model.zip").write_bytes(bytes(data))


def no_model(run):
    (run / "model.zip").unlink()


def edited(run, **changes):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))


def another_task(run):
    edited(run, env_arguments={"task": "lenet5-fashion-mini"}, task_overrides=[])


def another_noise(run):
    edited(run, task_overrides=["crossbar.device.sigma=0.1"])


def another_algorithm(run):
    edited(run, algorithm="ppo")


def damaged_placements(run):
    (run / "placements.csv").write_text("evaluation,task\n1,2\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_run, "is not a run folder (it has no config.yaml)"),
        (unfinished, "go on with: python -m agents.train"),
        (cut_model, "model.zip is missing, damaged"),
        (flipped_model, "model.zip is missing, damaged"),
        (no_model, "model.zip is missing, damaged"),
        (another_task, "is a policy for"),
        (another_noise, "holds no placement of the task"),
        (another_algorithm, "damaged or not of ppo"),
        (damaged_placements, "placements.csv is missing or damaged"),
    ],
)
def test_faults_are_one_sentence(damage, said, run, capsys):
    damage(run)
    assert main([str(run)]) == 2
    shown = capsys.readouterr()
    *opening, fault = shown.err.splitlines()
    assert shown.out == "" and opening in ([], [before_opening(run / "model.zip")])
    assert said in fault and "Traceback" not in shown.err


def test_an_observation_of_another_size_is_named(run, capsys):
    ours = MonteCarloEvaluator(load_task("lenet5-fashion-mini"))
    another_task(run)
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    # Toy: 4 sites of 2 options; LeNet-5: 5 sites of 3. Actions are 1 + sites * options.
    assert "and 9 actions" in error and f"and {1 + len(ours.space.sites) * 3}" in error
    assert "lenet5-fashion-mini" in error and "restore" in error
