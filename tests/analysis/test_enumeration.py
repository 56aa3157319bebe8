"""An enumeration is the evaluator's numbers in a file that no kill, race or full disk can spoil."""

import csv
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from forged_enumerations import as_version_2, signed, with_header

from cimenv.analysis import enumeration
from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.errors import ConfigError
from cimenv.cost.term import COST_TERMS
from cimenv.tasks import load_task
from cimenv.tasks.files.enumeration_file import read_enumeration
from cimenv.tasks.files.header import MAGIC
from cimenv.tasks.files.row import Row
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TASK = load_task("toy-4site")  # 4 sites with 2 options and none: 3 ** 4 = 81 placements on 8 chips x 500 images
KILLS = 10


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The file of an uninterrupted run."""
    path = tmp_path_factory.mktemp("enumeration") / "whole.csv"
    assert enumerate_placements(TASK, path, compute=Compute(1)).new == 81
    return path.read_bytes()


def test_rows_are_the_evaluator_s(toy, toy_values, whole, tmp_path):
    path = tmp_path / "all.csv"
    path.write_bytes(whole)
    found = read_enumeration(path)
    assert [row.placement for row in found.rows] == sorted(toy_values)
    assert found.finished and len(found.rows) == 81
    for row in found.rows:
        evaluation = toy.evaluate(row.placement)
        assert row.per_chip == tuple(evaluation.correct[0])
        assert row.numbers["objective"] == toy_values[row.placement]
        assert row.numbers["mean"] == pytest.approx(sum(row.per_chip) / (8 * 500))
        assert row.numbers["std"] == pytest.approx(np.std(np.array(row.per_chip) / 500, ddof=1))
        assert row.numbers["p05"] == min(row.per_chip) / 500  # the ceil(0.05 * 8) = 1st order statistic
        assert {term: row.numbers[term] for term in COST_TERMS} == toy.space.shares(row.placement)
        assert row.numbers["cost"] == toy.space.scalar_cost(row.placement)
    assert found.best.numbers["objective"] == max(toy_values.values())
    assert found.header.reference_accuracy == toy.reference_accuracy()
    assert found.header.weights_digest == toy.problem.weights_digest


def test_file_is_one_comment_and_a_csv(whole):
    first, *rest = whole.decode().splitlines()
    assert json.loads(first.removeprefix(MAGIC))["task"] == TASK.model_dump(mode="json")
    rows = list(csv.DictReader(rest))
    columns = "placement objective mean std p05 weights macs energy area latency cost correct errors check"
    assert list(rows[0]) == columns.split() and len(rows) == 81
    assert rows[5]["placement"] == "0 0 1 2"  # 5 = 1 * 3 + 2: depth first


@pytest.fixture
def row_by_row(monkeypatch):
    monkeypatch.setattr(enumeration, "LEAST_CHUNK", 1)


def test_numbers_know_neither_chunks_nor_threads(whole, tmp_path, row_by_row):
    one_by_one, two_threads = tmp_path / "a.csv", tmp_path / "b.csv"
    enumerate_placements(TASK, one_by_one, compute=Compute(1), flush_s=0)
    enumerate_placements(TASK, two_threads, compute=Compute(2))
    assert one_by_one.read_bytes() == two_threads.read_bytes() == whole
    assert list(tmp_path.glob("*.lock")) == []


def test_budget_leaves_out_what_it_forbids(tmp_path):
    task = load_task("toy-4site", ["budget.weights=0.005"])
    found = enumerate_placements(task, tmp_path / "all.csv", chips=1)
    added = found.space.terms[..., 0]  # added weights are whole numbers: their shares add up
    sums = added[0][:, None, None, None] + added[1][:, None, None] + added[2][:, None] + added[3]
    assert len(found.rows) == (sums <= 0.005 + 1e-9).sum() < 81


@needs_fork
def test_killed_ten_times(whole, tmp_path, row_by_row):
    """Killed within a row, at bytes drawn with seed 0, each time by the fresh process that went on after the last."""
    path = tmp_path / "all.csv"
    for size in np.sort(np.random.default_rng(0).integers(1, len(whole), KILLS)):
        process = multiprocessing.get_context("fork").Process(target=_enumerate_until, args=(path, int(size)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert path.read_bytes() == whole[:size]
    kept = whole[:size].count(b"\n") - 2
    assert enumerate_placements(TASK, path, compute=Compute(1)).new == 81 - kept > 0
    assert path.read_bytes() == whole


def _enumerate_until(path, size):
    """Enumerate row by row; die when the file has so many bytes."""

    def append(file, path, text):
        room = size - path.stat().st_size
        file.write(text.encode()[:room])
        file.flush()
        if len(text) >= room:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)  # OpenMP does not survive a fork
    enumeration._append = append
    enumerate_placements(TASK, path, compute=Compute(1), flush_s=0)


@pytest.mark.slow
def test_the_command_killed_ten_times(toy, tmp_path):
    """As above, the command from outside, once the file has so many bytes; on 24 chips, two rows at a time."""
    script = "from cimenv.analysis import enumeration as e; e.LEAST_CHUNK = 1; e.LARGEST_CHUNK = 2\n"
    script += "from cimenv.cli import main; main()"

    def started(name):
        arguments = ["enumerate", "toy-4site", "--chips", "24", "--threads", "1", "--out", str(tmp_path / name)]
        return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL)

    assert started("whole.csv").wait() == 0
    whole, path = (tmp_path / "whole.csv").read_bytes(), tmp_path / "killed.csv"
    for size in np.sort(np.random.default_rng(1).integers(0, 0.9 * len(whole), KILLS)):
        process = started("killed.csv")
        while (path.stat().st_size if path.exists() else -1) < size:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert whole.startswith(path.read_bytes())
    assert started("killed.csv").wait() == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("kept", "rows"),
    [
        (lambda data: 0, 0),  # an empty file
        (lambda data: data.index(b"\n") - 30, 0),  # within the JSON
        (lambda data: data.index(b"\nplacement") + 5, 0),  # within the names of the columns
        (lambda data: data.index(b"\n2 1 0 1,") + 6, 64),  # within a placement: 2 * 27 + 9 + 1 = 64 rows before it
        (lambda data: data.index(b"\n2 1 0 1,") + 40, 64),  # within a number
        (lambda data: data.index(b"\n2 1 0 1,") + 1, 64),  # between two rows
        (lambda data: len(data) - 1, 80),  # before the last end of line
    ],
)
def test_torn_anywhere(whole, tmp_path, kept, rows):
    path = tmp_path / "all.csv"
    path.write_bytes(whole[: kept(whole)])
    assert enumerate_placements(TASK, path, compute=Compute(1)).new == 81 - rows
    assert path.read_bytes() == whole


def test_full_disk_stops_with_a_sentence_and_goes_on(whole, tmp_path, monkeypatch, row_by_row):
    path, room = tmp_path / "all.csv", iter(range(3))
    sync = os.fsync

    def full(descriptor):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left on device"):
            enumerate_placements(TASK, path, compute=Compute(1), flush_s=0)
    enumerate_placements(TASK, path, compute=Compute(1))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("overrides", "name", "words"),
    [
        (["times_s=[1.0,2.0]"], "all.csv", "a row holds the counts of one time"),
        (["statistic=worst_case"], "all.csv", "does not follow from counts"),
        ([], "all.csv.xz", "write all.csv, then run xz"),
    ],
)
def test_what_a_row_cannot_hold_is_refused_before_training(tmp_path, untrained, overrides, name, words):
    with pytest.raises(ConfigError, match=words):
        enumerate_placements(load_task("toy-4site", overrides), tmp_path / name)


@pytest.fixture
def untrained(monkeypatch):
    def build(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr(Problem, "build", build)


def test_finished_file_trains_nothing(whole, tmp_path, untrained):
    path = tmp_path / "all.csv"
    path.write_bytes(whole)
    found = enumerate_placements(TASK, path)
    assert (found.new, len(found.rows), list(tmp_path.glob("*.lock"))) == (0, 81, [])


def changed(whole, old, new):
    assert old in whole
    return whole.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: with_header(w, version=1), "version 1"),
        (lambda w: with_header(w, version=2), "sites: version 2 has some"),
        (lambda w: with_header(w, sites=None), "sites: version 4 has no"),
        (lambda w: with_header(w, task__crossbar__device__sigma=0.4), "device.sigma is 0.4 there and 0.5 here"),
        (lambda w: changed(w, b'"sigma":0.5', b'"sigma":0.4'), "sigma is 0.4 there and 0.5 here"),
        (lambda w: with_header(w, split="test"), 'split is "test" there'),
        (lambda w: with_header(w, chips=9), "chips is 9 there and 8 here"),
        (lambda w: with_header(w, task__weights=12), "Line 1 of .* is damaged: .*weights"),
        (lambda w: changed(w, b",mean,", b",average,"), "Line 2 of .* is damaged"),
        (lambda w: signed(changed(w, b"\n0 0 0 2,", b"\n0 0 0 two,")), "Line 5 of .* is damaged: it cannot be read"),
        (lambda w: signed(changed(w, b"\n0 0 0 2,", b"\n0 0 2 0,")), "placement 0 0 2 0 does not belong there"),
        (
            lambda w: signed(changed(w, b"\n0 0 0 2,", b"\n0 0 0 2,9")),
            "Line 5 of .*: objective and the counts disagree",
        ),
        (lambda w: signed(changed(w, b"\n0 0 0 2,", b"\n0 0 0 2,1e999")), "Line 5 of .* is damaged: it cannot be read"),
        (lambda w: changed(w, b"\n0 0 0 2,", b"\n0 0 0 2,9"), "Line 5 of .* is damaged: its checksum does not fit"),
        (lambda w: w + w[-100:], "Line 84 of .* is damaged"),
        (lambda w: b"placement,objective\n0 0 0 0,1.0\n", "is not an enumeration"),
        (lambda w: b"some notes", "is not an enumeration"),
    ],
)
def test_anything_else_is_refused_untouched_and_before_training(whole, tmp_path, untrained, change, words):
    path = tmp_path / "all.csv"
    path.write_bytes(change(whole))
    with pytest.raises(ConfigError, match=words) as caught:
        enumerate_placements(TASK, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == change(whole)


def test_other_task_in_the_same_file(whole, tmp_path, untrained):
    path = tmp_path / "all.csv"
    path.write_bytes(whole)
    with pytest.raises(ConfigError, match=r"cost_weight is 2.0 there and 0.2 here; enumerate into a new file"):
        enumerate_placements(load_task("toy-4site", ["cost_weight=0.2"]), path)


def test_other_weights(toy, whole, tmp_path):
    path, digest = tmp_path / "all.csv", toy.problem.weights_digest.encode()
    path.write_bytes(signed(changed(whole, digest, b"0" * 32))[:-100])
    with pytest.raises(ConfigError, match=f"made with other weights .digest 0{{32}}, here {digest.decode()}"):
        enumerate_placements(TASK, path)
    assert path.stat().st_size == len(whole) - 100


def test_second_process_is_turned_away(tmp_path, untrained):
    path = tmp_path / "all.csv"
    with FileLock(tmp_path / "all.csv.lock"), pytest.raises(ConfigError, match="Another process is enumerating"):
        enumerate_placements(TASK, path)


@pytest.mark.parametrize(
    ("place", "words"),
    [("missing/all.csv", "there is no folder"), ("", "is a folder"), ("file/all.csv", "there is no folder")],
)
def test_places_that_cannot_be_written(tmp_path, untrained, place, words):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=words):
        enumerate_placements(TASK, tmp_path / place)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_folder_without_permission(untrained):
    with pytest.raises(ConfigError, match=r"Cannot write /proc/all\.csv"):
        enumerate_placements(TASK, "/proc/all.csv")


def test_too_many_placements(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(enumeration, "LARGEST", 80)
    with pytest.raises(ConfigError, match="toy-4site has 81 placements and an enumeration at most 80"):
        enumerate_placements(TASK, tmp_path / "all.csv")


def test_a_new_statistic_needs_no_new_run(toy, whole, tmp_path):
    path = tmp_path / "all.csv"
    path.write_bytes(whole)
    found = read_enumeration(path)
    row = found.rows[40]
    assert found.evaluation(row).value("mean_minus_std") == toy.evaluate(row.placement).value("mean_minus_std")
    assert Row.of(found.objective, found.evaluation(row)) == row


@pytest.mark.filterwarnings("ignore:.*has no checksums")
@pytest.mark.parametrize("kept", [None, 15_000])
def test_a_file_of_the_version_before_goes_on_and_gets_checksums(whole, tmp_path, kept):
    path = tmp_path / "all.csv"
    path.write_bytes(as_version_2(whole)[:kept])
    new = 81 - (as_version_2(whole)[:kept].count(b"\n") - 2)
    assert enumerate_placements(TASK, path, compute=Compute(1)).new == new and (new == 0) == (kept is None)
    assert path.read_bytes() == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == ["all.csv"]


@pytest.mark.filterwarnings("ignore:.*has no checksums")
def test_a_file_of_the_version_before_that_holds_something_else_stays_as_it_is(whole, tmp_path, untrained):
    path = tmp_path / "all.csv"
    path.write_bytes(as_version_2(whole, task__cost_weight=0.2))
    with pytest.raises(ConfigError, match=r"cost_weight is 0.2 there and 2.0 here"):
        enumerate_placements(TASK, path)
    assert path.read_bytes() == as_version_2(whole, task__cost_weight=0.2)
