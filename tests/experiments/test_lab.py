"""What experiments share: Markdown tables, rows, targets, names of jobs."""

import json

import numpy as np
import pytest
from scipy import stats

from cimenv.core.config import read_yaml
from experiments.agents_seeds.plan import Plan as Seeds
from experiments.agents_seeds.report import write_results
from experiments.lab.folders import config_of, results_of
from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.plan import ExperimentJob
from experiments.lab.rows import chips_of, mean_of, select, with_interval, write_csv
from experiments.lab.targets import target, write_targets

ROWS = [{"a": 1, "b": 0.5}, {"a": 1, "b": 0.7, "c": [1, 2]}, {"a": 2}]


def test_a_table_has_words_at_the_left_and_numbers_at_the_right():
    assert table(["who", "what", "much"], [["x", "y", "1"]], words=2) == (
        "| who | what | much |\n|---|---|---:|\n| x | y | 1 |\n"
    )


def test_rows_are_selected_and_averaged():
    assert select(ROWS, a=1) == ROWS[:2] and select(ROWS, a=1, c=None) == ROWS[:1]
    assert mean_of(ROWS, "b") == pytest.approx(0.6) and np.isnan(mean_of(ROWS, "d"))


def test_a_mean_has_half_of_its_interval():
    chips = chips_of({"correct": [80, 90, 100], "images": 100})
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert with_interval(chips) == f"90.0% ± {half:.1%}"


def test_a_csv_file_has_the_columns_of_all_rows(tmp_path):
    write_csv(tmp_path / "rows.csv", ROWS, leave_out=["b"])
    lines = [line.rpartition(",")[0] for line in (tmp_path / "rows.csv").read_text().splitlines()]
    assert lines == ["a,c", "1,", "1,1 2", "2,"]


def test_a_target_that_was_not_measured_is_not_met(tmp_path):
    write_targets(
        tmp_path, [target("x", "<= 1", float("nan"), True, "make x"), target("y", "<= 1", 0.5, True, "make y")]
    )
    missing, kept = json.loads((tmp_path / "targets.json").read_text())
    assert missing["measured"] is None and not missing["met"] and kept["met"]


def test_the_name_of_a_job_is_its_fields():
    class Job(ExperimentJob):
        kind: str
        seed: int

    assert Job(kind="blocks", seed=0).name == "blocks-0"


def test_seeds_follow_from_their_journal(tmp_path):
    plan = Seeds(**read_yaml(config_of("agents_seeds")))
    write_results(plan, Journal(results_of("agents_seeds") / "jobs.jsonl", plan.measured()), tmp_path)
    for file in ("seeds.csv", "table.md", "targets.json"):
        assert (tmp_path / file).read_bytes() == (results_of("agents_seeds") / file).read_bytes(), file
