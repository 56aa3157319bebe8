"""What long experiments share."""

import dataclasses
import errno
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from filelock import FileLock

from cimenv.core.errors import ConfigError
from experiments.lab.experiment import Experiment
from experiments.lab.journal import Journal
from experiments.lab.rows import write_csv
from experiments.lab.targets import write_targets


class Job:
    """A job is anything with a name."""

    name = "a"


def test_journal_survives_a_line_cut_short(tmp_path):
    path = tmp_path / "jobs.jsonl"
    Journal(path, {"chips": 2}).add(Job(), [{"x": 1}])
    with path.open("a") as file:
        file.write('{"job": "b", "ro')  # killed while it wrote
    assert Journal(path, {"chips": 2}).rows == {"a": [{"x": 1}]}
    with pytest.raises(ConfigError, match="another plan"):
        Journal(path, {"chips": 3})


def test_a_full_disk_is_one_sentence_and_the_journal_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "jobs.jsonl"
    journal = Journal(path, {"chips": 2})

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for write in (
            lambda: journal.add(Job(), [{"x": 1}]),
            lambda: write_csv(tmp_path / "rows.csv", [{"x": 1}]),
            lambda: write_targets(tmp_path, []),
        ):
            with pytest.raises(ConfigError, match=r"Cannot write .*: No space left on device; give a file"):
                write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jobs.jsonl"]
    Journal(path, {"chips": 2}).add(Job(), [{"x": 1}])
    assert Journal(path, {"chips": 2}).rows == {"a": [{"x": 1}]}


def test_a_second_process_in_the_folder_of_an_experiment_is_refused(tmp_path):
    experiment = Experiment("none", None, None, None)
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match=r"Another process measures into .*; wait"):
        experiment.run(None, tmp_path)


@pytest.mark.slow
def test_workers_end_with_a_killed_experiment(tmp_path, request):
    script = """
        import os, time
        from pathlib import Path
        from experiments.lab.journal import Journal
        from experiments.lab.processes import run_stages

        class Job:
            name = "sleep"

        def work():
            Path("worker").write_text(str(os.getpid()))
            time.sleep(300)

        if __name__ == "__main__":
            run_stages([[Job()]], Journal(Path("jobs.jsonl"), {}), lambda job: (work, ()), lambda: None, workers=1)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath)}
    experiment = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment)
    started = tmp_path / "worker"
    deadline = time.monotonic() + 120
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    experiment.send_signal(signal.SIGKILL)
    experiment.wait()
    worker = int(started.read_text())
    while os.path.exists(f"/proc/{worker}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["agents", "aimc", "cross", "deep", "lenet5", "transfer", "worst_case"])
def test_an_experiment_advises_the_command_that_runs_it(name, tmp_path, monkeypatch, capsys):
    module = importlib.import_module(f"experiments.{name}.__main__")
    experiment = dataclasses.replace(module.EXPERIMENT, write=lambda plan, journal, out: None)
    monkeypatch.setattr("experiments.lab.experiment.results_of", lambda name: tmp_path / name)
    assert experiment.command(["--report"], "") == 2
    advice = f"nothing is measured yet; run python -m experiments.{name} without --report.\n"
    assert capsys.readouterr().err.endswith(advice)
