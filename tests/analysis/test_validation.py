"""`validate` finds what was changed, and nothing in what was not."""

from dataclasses import replace

import pytest
from forged_enumerations import signed, with_header

from cimenv.analysis import validation
from cimenv.analysis.enumeration import enumerate_placements
from cimenv.analysis.validation import validate
from cimenv.core.errors import ConfigError
from cimenv.tasks import MonteCarloEvaluator, load_task
from cimenv.tasks.files.enumeration_file import read_enumeration
from cimenv.tasks.files.row import Row
from cimenv.tasks.requests import Compute


@pytest.fixture(scope="module")
def good(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("validation") / "all.csv"
    enumerate_placements(load_task("toy-4site"), path, compute=Compute(1))
    return path


@pytest.fixture
def copy(good, tmp_path):
    path = tmp_path / "all.csv"
    path.write_bytes(good.read_bytes())
    return path


def rewritten(path, row, correct):
    """Change a row's counts, and every column with them: only a new evaluation can tell."""
    found = read_enumeration(path)
    forged = Row.of(found.objective, found.header.evaluation(row.placement, correct, row.errors))
    replaced(path, row, forged)


def replaced(path, row, by):
    path.write_bytes(signed(path.read_text().replace(row.text(), by.text()).encode()))


def test_good_file(good, monkeypatch):
    monkeypatch.setattr(MonteCarloEvaluator, "answers", lambda *_: pytest.fail("stored evaluations were read"))
    found = validate(good, seed=3, compute=Compute(1))
    assert found.valid and found.same_weights and found.largest_gap == 0
    assert found.allowed_gap == 0.5  # 0.1 % of 500 images
    rows = found.enumeration.rows
    assert len(set(found.checked)) == 16 and {0, rows.index(found.enumeration.best)} <= set(found.checked)


def test_rows_are_drawn_by_the_seed(good):
    drawn = [validate(good, rows=5, seed=seed, compute=Compute(1)).checked for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(rows) == 5 for rows in drawn)


def test_one_image_on_one_chip_of_the_best_row(copy):
    best = read_enumeration(copy).best
    rewritten(copy, best, (best.per_chip[0], best.per_chip[1] + 1, *best.per_chip[2:]))
    found = validate(copy, rows=2, compute=Compute(1))
    (difference,) = found.differences
    assert (difference.placement, difference.column) == (best.placement, "correct, chip 1")
    assert (difference.there, difference.here) == (best.per_chip[1] + 1, best.per_chip[1])
    assert found.largest_gap == 1 > found.allowed_gap


@pytest.mark.parametrize(("images", "valid"), [(1, True), (2, False)])
def test_tolerance(copy, monkeypatch, images, valid):
    monkeypatch.setattr(validation, "TOLERANCE", 0.002)  # 1 of 500 images
    best = read_enumeration(copy).best
    rewritten(copy, best, (best.per_chip[0] + images, *best.per_chip[1:]))
    assert validate(copy, rows=2, compute=Compute(1)).valid is valid


def test_a_changed_error_is_found(copy):
    row = read_enumeration(copy).best
    changed = replace(row, errors=(*row.errors[:7], 9.0, *row.errors[8:]))
    replaced(copy, row, changed)
    (difference,) = validate(copy, rows=2, compute=Compute(1)).differences
    assert difference.column == "errors, number 7" and difference.there == 9.0


def test_a_changed_count_is_found_in_a_row_that_is_not_drawn(copy):
    found = validate(copy, rows=2, compute=Compute(1))
    k = next(k for k in range(81) if k not in found.checked)
    row = found.enumeration.rows[k]
    changed = replace(row, per_chip=(row.per_chip[0] - 1, *row.per_chip[1:]))
    replaced(copy, row, changed)
    differences = validate(copy, rows=2, compute=Compute(1)).differences
    assert {"objective", "mean"} <= {d.column for d in differences} <= {"objective", "mean", "std", "p05"}
    assert {d.line for d in differences} == {k + 3}


def test_other_weights_and_reference(toy, copy):
    copy.write_bytes(with_header(copy.read_bytes(), weights_digest="0" * 32, clean_accuracy=0.5))
    found = validate(copy, rows=2, compute=Compute(1))
    assert not found.same_weights
    assert [(d.line, d.column) for d in found.differences] == [(1, "weights_digest"), (1, "clean_accuracy")]


def test_changed_digits_are_differences(copy):
    text = copy.read_text()
    header = text.index('"clean_accuracy":0.') + 19
    for row, lines in (("\n0 0 0 1,", {4}), ("\n1 0 0 0,", {30})):
        k = text.index(row) + len(row)
        copy.write_text(f"{text[:k]}7{text[k + 1 :]}")
        found = validate(copy, rows=2, compute=Compute(1))
        assert {d.line for d in found.differences if d.column == "check"} == lines
    copy.write_text(f"{text[:header]}{(int(text[header]) + 1) % 10}{text[header + 1 :]}")
    found = validate(copy, rows=2, compute=Compute(1))
    assert [(d.line, d.column.split()[0]) for d in found.differences] == [(1, "clean_accuracy"), (1, "checksums")]


def test_sites_that_are_not_the_network_s(copy):
    sites = [site.model_dump() for site in read_enumeration(copy).header.sites]
    sites[2]["bias"] = not sites[2]["bias"]  # which no cost depends on
    copy.write_bytes(with_header(copy.read_bytes(), sites=sites))
    (difference,) = validate(copy, rows=2, compute=Compute(1)).differences
    assert (difference.line, difference.column) == (1, "sites")
    assert difference.there["bias"] is not difference.here["bias"]


def test_an_unfinished_file_is_validated_as_far_as_it_goes(copy):
    text = copy.read_text()
    copy.write_text("".join(text.splitlines(keepends=True)[:12]))
    found = validate(copy, rows=4, compute=Compute(1))
    assert found.valid and not found.enumeration.finished and len(found.enumeration.rows) == 10
    copy.write_text(text[:-3])
    with pytest.raises(ConfigError, match="is unfinished"):
        validate(copy)


def test_refusals(copy):
    with pytest.raises(ConfigError, match="rows: got 0"):
        validate(copy, rows=0)
    with pytest.raises(ConfigError, match="Cannot read"):
        validate(copy.with_name("missing.csv"))
