"""The ranking of placements by the bank: one small job, merits by hand, and the shipped results from their journal."""

import numpy as np
import pytest

from cimenv.core.checked_rows import read_rows
from cimenv.core.config import read_yaml
from experiments.bank_ranking.measure import measure
from experiments.bank_ranking.plan import Plan
from experiments.bank_ranking.report import merits, write_results
from experiments.lab.folders import config_of, results_of
from experiments.lab.journal import Journal

SMALL = {
    "recipe": {"name": "noise", "epochs": 1},
    "bank": {"steps": 3},
    "tuned": {"steps": 2},
    "chips": 2,
    "images": 50,
}


@pytest.mark.slow
def test_a_placement_is_measured_three_times(tmp_path):
    plan = Plan(task="toy-4site", set=SMALL, placements=6, stand_alone=True)
    (first,), rest = plan.stages()
    assert len(rest) == 5 and len({job.name for job in (first, *rest)}) == 6
    (row,) = measure(plan, first, tmp_path)
    assert tuple(row["placement"]) == first.placement and any(first.placement)
    assert all(0 <= row[name] <= 1 for name in ("bank", "stand_alone", "tuned"))
    (again,) = measure(plan.model_copy(update={"stand_alone": False}), first, tmp_path)
    assert (again["bank"], again["tuned"]) == (row["bank"], row["tuned"]) and np.isnan(again["stand_alone"])


def test_merits_of_six_placements():
    """One pair of fifteen is turned: tau = 13 / 15. The best tuned of the bank's top five is .02 below the best."""
    bank = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    found = merits(np.array([bank, bank, [0.8, 0.7, 0.6, 0.5, 0.4, 0.82]]).T)
    assert found["tau_stand_alone"] == pytest.approx(1) and found["top5_gap_tuned"] == pytest.approx(0.02)
    turned = merits(np.array([bank, bank, [0.5, 0.6, 0.4, 0.3, 0.2, 0.1]]).T)
    assert turned["tau_tuned"] == pytest.approx(13 / 15)


@pytest.mark.parametrize("name", ["bank_ranking", "deep_bank"])
def test_results_follow_from_the_journal(name, tmp_path):
    plan = Plan(**read_yaml(config_of(name)))
    journal = Journal(results_of(name) / "jobs.jsonl", plan.measured())
    out = tmp_path / name
    out.mkdir()
    write_results(plan, journal, out)
    for file in ("ranking.csv", "table.md", "targets.json"):
        assert (out / file).read_bytes() == (results_of(name) / file).read_bytes(), file
    assert len(read_rows(out / "ranking.csv")) == plan.placements == 40
