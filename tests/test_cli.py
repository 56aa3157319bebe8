"""The command line: one sentence on stderr, exit code 2, no traceback."""

import json
import subprocess
import sys

import pytest

import cimenv


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "cimenv", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "lenet5-fashon-mini"), "Did you mean"),
        (("show", "toy-4site", "--set", "crossbar.device.sigma=-1"), "sigma"),
        (("evaluate", "toy-4site", "--placement", "0,0"), "one option index for each of the 4 sites"),
        (("evaluate", "toy-4site", "--placement", "a,b"), "commas"),
        (("search", "toy-4site", "--method", "annealing"), "Unknown search method"),
    ],
)
def test_bad_input(toy, arguments, words):
    found = run(*arguments)
    assert found.returncode == 2 and found.stdout == ""
    last = found.stderr.strip().splitlines()
    assert len(last) == 1 and words in last[0] and "Traceback" not in found.stderr


def test_unwritable_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIMENV_CACHE", str(tmp_path / "file"))
    found = run("evaluate", "toy-4site", "--placement", "0,0,0,0")
    assert found.returncode == 2 and "CIMENV_CACHE" in found.stderr and "Traceback" not in found.stderr


def test_evaluate_and_search_print_json(toy, toy_values):
    found = json.loads(run("evaluate", "toy-4site", "--placement", "1,0,2,0", "--json").stdout)
    assert found["mean"] == toy.evaluate((1, 0, 2, 0)).value("mean")
    searched = json.loads(run("search", "toy-4site", "--method", "exhaustive", "--json").stdout)
    assert searched["objective"] == pytest.approx(max(toy_values.values()))


def test_tasks_and_help():
    assert set(json.loads(run("tasks", "--json").stdout)) >= {"toy-4site", "lenet5-fashion-mini"}
    assert "greedy, knapsack, random or exhaustive" in run("search", "--help").stdout.replace("\n", " ").replace(
        "  ", ""
    )


def test_import_is_light():
    script = "import torch, gymnasium, time; t = time.perf_counter(); import cimenv; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(2)]
    assert min(seconds) < 0.3
    assert "place" in dir(cimenv)
