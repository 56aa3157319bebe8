"""Sensitivity: a linear network whose bearable noise is known, rows that are kept, and names that are checked."""

import errno
import math
import os

import numpy as np
import pytest
import torch
from filelock import FileLock
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from cimenv.analysis import sensitivity, sensitivity_file
from cimenv.analysis.non_idealities import NON_IDEALITIES, _standard_matrix, checked_names, crossbar, mvm_error
from cimenv.cli import app
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.crossbar import CrossbarConfig
from cimenv.data import DataSplits, ImageSet
from cimenv.tasks import MonteCarloEvaluator, UserObjects, load_task

BASE = CrossbarConfig(max_inputs=512)


@pytest.fixture(scope="module")
def measured(cache):
    task = sensitivity.bare_task(load_task("toy-4site", ["recipe.epochs=1"]), 300)
    return sensitivity.Sensitivity(MonteCarloEvaluator(task).problem, chips=3)


@pytest.mark.parametrize("name", NON_IDEALITIES)
def test_every_non_ideality_alone_reaches_from_harmless_to_ruin(name):
    what = NON_IDEALITIES[name]
    errors = [mvm_error(crossbar(name, strength, BASE)) for strength in (what.low, what.high)]
    assert errors[0] < 0.02 and errors[1] > 0.3


def test_mvm_error_of_output_noise_is_its_closed_form():
    """Rows are scaled to a largest weight of 1, so that |y - Wx| = s * |gamma * xi|; mean over vectors of the ratio."""
    s = 0.1
    w, x = _standard_matrix()
    noise = s * w.abs().amax(1).square().sum().sqrt()
    expected = float((noise / (x @ w.T).norm(dim=1)).mean())
    assert mvm_error(crossbar("output_noise", s, BASE)) == pytest.approx(expected, rel=0.01)


def test_bisection_finds_where_a_predicate_ends():
    what = NON_IDEALITIES["output_noise"]
    assert sensitivity._largest(what, lambda s: s <= 0.37, steps=20) == pytest.approx(0.37, rel=1e-4)
    assert sensitivity._largest(what, lambda s: True) == what.high
    assert sensitivity._largest(what, lambda s: False) == pytest.approx(what.low, rel=0.1)


def test_threshold_holds_and_twice_its_strength_does_not(measured):
    row = measured.threshold("output_noise", 0.95)
    assert row.normalised >= 0.95 and row.low <= row.accuracy <= row.high and row.images == 300
    beyond = measured.accuracy(crossbar("output_noise", 2 * row.strength, measured.network.config))
    assert measured.normalised(float(beyond.mean())) < 0.95
    assert measured.normalised(measured.clean) == 1.0 and measured.normalised(0.1) == 0.0


def test_rows_are_kept_and_a_figure_is_drawn(measured, tmp_path):
    path = tmp_path / "sensitivity.csv"
    first = sensitivity_file.run(measured, path, ("weight_noise",))
    assert [row.kind for row in first] == ["threshold", "equal_error"]
    assert first[1].mvm_error == pytest.approx(0.1, rel=0.02)
    text = path.read_text()
    path.write_text(text[:-30])  # killed while it wrote the second row
    again = sensitivity_file.run(measured, path, ("weight_noise", "adc_step"))
    assert again[:2] == first and len(again) == 4 and sensitivity_file.read_rows(path) == again
    assert len(sensitivity_file.figure(again).axes) == 2
    stronger = sensitivity_file.run(measured, path, ("weight_noise",), error=0.3)  # another question, another row
    assert len(stronger) == 5 and stronger[-1].mvm_error == pytest.approx(0.3, rel=0.02)
    other = sensitivity.Sensitivity(measured.problem, chips=2)
    with pytest.raises(ConfigError, match="3 chips x 300 images"):
        sensitivity_file.run(other, path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="has other columns than task,weights"):
        sensitivity_file.read_rows(path)
    with pytest.raises(ConfigError, match="has other columns than task,weights"):
        sensitivity_file.run(measured, path)
    assert path.read_text() == "a,b\n1,2\n"
    with pytest.raises(UnknownNameError, match="output_noise"):
        checked_names(["output_nois"])


def test_the_command(cache, tmp_path):
    arguments = ["sensitivity", "toy-4site", "--set", "recipe.epochs=1", "--only", "adc_step", "--chips", "2"]
    found = CliRunner().invoke(app, [*arguments, "--images", "100", "--out", str(tmp_path)])
    assert found.exit_code == 0 and "adc_step" in found.stdout
    assert (tmp_path / "sensitivity.png").stat().st_size > 10_000
    rows = sensitivity_file.read_rows(tmp_path / "sensitivity.csv")
    assert [row.kind for row in rows] == ["threshold", "equal_error"]
    assert all(math.isfinite(row.mvm_error) and 0 <= row.accuracy <= 1 for row in rows)


def test_equal_errors_rank_as_their_strengths(measured):
    errors = [measured.at_error("input_noise", error) for error in (0.05, 0.1, 0.2)]
    assert stats.spearmanr([row.strength for row in errors], [0.05, 0.1, 0.2]).statistic == 1.0
    np.testing.assert_allclose([row.mvm_error for row in errors], [0.05, 0.1, 0.2], rtol=0.02)


def test_a_network_at_chance_is_refused_before_anything_is_measured():
    torch.manual_seed(0)
    part = ImageSet(torch.rand(20, 1, 8, 8), torch.arange(20) % 4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)
    model[1].weight.zero_()
    task = sensitivity.bare_task(load_task("toy-4site", ["bank.steps=0"]), 20)
    objects = UserObjects(model, DataSplits("tiny", part, part, part, classes=4))
    with pytest.raises(ConfigError, match=r"reference: got an accuracy of 0.25, .* train it first"):
        sensitivity.Sensitivity(MonteCarloEvaluator(task, objects=objects).problem)


def test_a_second_run_into_a_folder_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    def trained(*given):
        pytest.fail("trained")

    monkeypatch.setattr(MonteCarloEvaluator, "problem", property(trained))
    with FileLock(tmp_path / ".sensitivity.csv.lock"):
        found = CliRunner().invoke(app, ["sensitivity", "toy-4site", "--out", str(tmp_path)])
    assert isinstance(found.exception, ConfigError)
    assert str(found.exception) == (
        f"Another process measures into {tmp_path / 'sensitivity.csv'}; wait until it has finished, or give another "
        "folder."
    )


def test_a_run_ends_with_its_lock_and_a_full_disk_keeps_its_rows(measured, tmp_path, monkeypatch):
    path = tmp_path / "sensitivity.csv"
    first = sensitivity_file.run(measured, path, ("weight_noise",))
    before = path.read_bytes()

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match=r"Cannot write .*sensitivity.csv: No space left on device; give a file"):
            sensitivity_file.run(lambda: measured, path, ("weight_noise", "adc_step"))
    assert path.read_bytes().startswith(before)
    assert sensitivity_file.run(measured, path, ("weight_noise", "adc_step"))[:2] == first


def test_a_folder_that_cannot_be_made(measured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Cannot write .*sensitivity.csv: (Not a directory|File exists)"):
        sensitivity_file.run(measured, tmp_path / "file" / "sensitivity.csv", ("weight_noise",))
