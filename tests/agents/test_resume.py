"""An interrupted run ends bit by bit like an uninterrupted one, whenever it is interrupted."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_runs import TOY
from filelock import FileLock
from stable_baselines3.common.callbacks import BaseCallback

from agents.checkpoint import latest
from agents.config import load_config
from agents.logs import open_logger
from agents.train import main, train
from cimenv.core.errors import ConfigError

SHORT = [*TOY, "steps=260", "evaluations=25", "log_every=64", "checkpoint_every=64", "images_every=100"]
SMALL = {
    "maskable_ppo": ["hyper_parameters.n_steps=64", "hyper_parameters.n_epochs=2"],
    "maskable_ppo_sites": ["hyper_parameters.n_steps=64", "hyper_parameters.n_epochs=2"],
    "ppo": ["hyper_parameters.n_steps=64", "hyper_parameters.n_epochs=2"],
    "a2c": [],
    "dqn": ["hyper_parameters.learning_starts=50", "hyper_parameters.buffer_size=100"],
}


class Interruption(Exception):  # noqa: N818
    """Stands for a killed process."""


class InterruptAt(BaseCallback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        if self.num_timesteps >= self.step:
            raise Interruption
        return True


def config_of(algorithm, *overrides):
    return load_config(f"configs/agents/{algorithm}.yaml", [*SHORT, *SMALL[algorithm], *overrides])


def interrupted(config, folder, toy, step):
    with pytest.raises(Interruption):
        train(config, folder, toy, callback=InterruptAt(step))


FAST = ("maskable_ppo", "dqn")  # on policy and off it
ALGORITHMS = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in SMALL]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_resumed_run_equals_an_uninterrupted_one(algorithm, toy, tmp_path, assert_same_runs):
    config, said = config_of(algorithm), []
    whole = train(config, tmp_path / "whole", toy)
    # Before the first checkpoint, in the middle of an episode twice in one interval, and in the last interval.
    for step in (30, 150, 151, 250):
        interrupted(config, tmp_path / "cut", toy, step)
    again = train(config, tmp_path / "cut", toy, say=said.append)
    assert (again.final, again.best, again.evaluations) == (whole.final, whole.best, whole.evaluations)
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")
    # Checkpoints are at the first starts of a rollout after every 64 steps: 192 is the last one before step 250.
    assert len(said) == 2 and said[0].startswith("Opening ") and f"from step {192} of 260" in said[1]


def test_a_finished_run_is_not_trained_again(toy, tmp_path, capsys):
    config, said = config_of("maskable_ppo"), []
    first = train(config, tmp_path / "toy-0", toy)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert train(config, tmp_path / "toy-0", toy, say=said.append) == first
    assert {path: path.stat().st_mtime_ns for path in before if path.name != ".lock"}.items() <= before.items()
    assert len(said) == 1 and "is finished: 320 steps" in said[0]  # 260 rounded up to rollouts of 64
    arguments = ["configs/agents/maskable_ppo.yaml", *SHORT, *SMALL["maskable_ppo"], "--runs", str(tmp_path)]
    assert main(arguments) == 0
    assert "is finished" in capsys.readouterr().out


def test_a_run_that_was_refused_leaves_its_folder_to_the_corrected_one(toy, tmp_path):
    wrong = config_of("maskable_ppo").model_copy(update={"hyper_parameters": {"n_epoch": 3}})
    with pytest.raises(ConfigError, match=r"hyper_parameters\.n_epoch: unknown key"):
        train(wrong, tmp_path / "toy-0", toy)
    assert train(config_of("maskable_ppo"), tmp_path / "toy-0", toy).evaluations > 0


def test_another_configuration_in_the_same_folder_is_refused(toy, tmp_path, capsys):
    interrupted(config_of("dqn"), tmp_path / "toy-0", toy, 150)
    before = sorted(path.name for path in (tmp_path / "toy-0").rglob("*"))
    with pytest.raises(ConfigError, match=r"another configuration \(evaluations differ\); choose another name="):
        train(config_of("dqn", "evaluations=26"), tmp_path / "toy-0", toy)
    capsys.readouterr()
    assert main(["configs/agents/dqn.yaml", *SHORT, "--runs", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "hyper_parameters differ" in shown.err
    assert sorted(path.name for path in (tmp_path / "toy-0").rglob("*")) == before


def test_a_kill_while_a_checkpoint_is_written_loses_nothing(toy, tmp_path, monkeypatch, assert_same_runs):
    config, original, renamed = config_of("dqn"), Path.rename, []
    train(config, tmp_path / "whole", toy)

    def killed(self, target):
        renamed.append(target)
        if len(renamed) == 3:
            (self / "state.json").write_text('{"version"')
            raise Interruption
        return original(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Interruption):
        train(config, tmp_path / "cut", toy)
    assert latest(tmp_path / "cut").name == f"{128:012d}"
    train(config, tmp_path / "cut", toy)
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut/checkpoint").iterdir()] == [f"{256:012d}"]


@pytest.mark.parametrize("name", ["model.zip", "state.json", "replay_buffer.pkl"])
def test_a_damaged_checkpoint_is_one_sentence(name, toy, tmp_path):
    interrupted(config_of("dqn"), tmp_path / "run", toy, 100)
    path = latest(tmp_path / "run") / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"is damaged \(\w+\); delete .* and start again\.$"):
        train(config_of("dqn"), tmp_path / "run", toy)


@pytest.mark.parametrize("ahead", [3_600, *(pytest.param(s, marks=pytest.mark.slow) for s in (0, 10 * 365 * 86_400))])
def test_a_clock_set_back_does_not_make_a_resumed_run_wait(toy, tmp_path, ahead):
    """The event file of the interrupted run is from later than now; the one that follows sorts after it."""
    interrupted(config_of("a2c"), tmp_path / "run", toy, 100)
    stamp = int(time.time()) + ahead
    (old,) = (tmp_path / "run").glob("events.out.tfevents.*")
    later = old.with_name(".".join([*old.name.split(".")[:3], str(stamp), *old.name.split(".")[4:]]))
    old.rename(later)
    state = latest(tmp_path / "run") / "state.json"
    state.write_text(state.read_text().replace(old.name, later.name))
    start = time.monotonic()
    logger = open_logger(tmp_path / "run")
    logger.close()
    assert time.monotonic() - start < 1
    first, second = sorted((tmp_path / "run").glob("events.out.tfevents.*"))
    assert first == later and int(second.name.split(".")[3]) == stamp + 1
    second.unlink()
    train(config_of("a2c"), tmp_path / "run", toy)


def test_a_full_disk_ends_a_run_in_one_sentence_and_the_same_command_goes_on(toy, tmp_path, monkeypatch):
    original, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(
            ConfigError, match=r"^Cannot write .*run.*: No space left on device; give a file in a folder"
        ):
            train(config_of("dqn"), tmp_path / "run", toy)
    assert train(config_of("dqn"), tmp_path / "run", toy).evaluations > 0


def test_two_processes_do_not_share_a_folder(toy, tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match="Another process trains in"):
        train(config_of("a2c"), tmp_path, toy)


def test_a_checkpoint_has_no_pickle_but_sb3s_own(toy, tmp_path):
    interrupted(config_of("dqn"), tmp_path / "run", toy, 100)
    files = {path.name for path in latest(tmp_path / "run").iterdir()}
    assert files == {"model.zip", "replay_buffer.pkl", "state.json"}
    state = json.loads((latest(tmp_path / "run") / "state.json").read_text())
    assert state["steps"] == 64 and state["generators"].keys() == {"torch", "numpy", "python", "action_space"}


KILLS = 10


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["maskable_ppo", "dqn"])
def test_ten_kills_at_random_moments(algorithm, toy, cache, tmp_path, assert_same_runs):
    """SIGKILL from outside, wherever it hits: rollouts, updates, checkpoints, pictures, log rows."""
    command = [sys.executable, "-m", "agents.train", f"configs/agents/{algorithm}.yaml", *SHORT, *SMALL[algorithm]]
    command += ["steps=1500", "images_every=2", "--runs"]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "CIMENV_CACHE": str(cache), "TMPDIR": str(temporary), "PYTHONPATH": os.getcwd()}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    length = (tmp_path / "whole/toy-0/progress.csv").stat().st_size
    moments, log = random.Random(f"kills of {algorithm}"), tmp_path / "cut/toy-0/progress.csv"
    for share in sorted(moments.uniform(0.05, 0.85) for _ in range(KILLS)):
        process = subprocess.Popen(
            [*command, str(tmp_path / "cut")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not (log.exists() and log.stat().st_size >= share * length):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    last = subprocess.run([*command, str(tmp_path / "cut")], check=True, env=environment, capture_output=True)
    assert b"was interrupted; going on from step" in last.stdout
    assert_same_runs(tmp_path / "whole/toy-0", tmp_path / "cut/toy-0")
    assert list(temporary.iterdir()) == []
