"""The experiment on the worst case: its plan, one small job of each kind, tables and targets from rows."""

import csv
import json
from types import SimpleNamespace

import pytest

from cimenv.core.config import read_yaml
from experiments.lab.journal import Journal
from experiments.worst_case.measure import measure
from experiments.worst_case.plan import Plan
from experiments.worst_case.report import write_results
from experiments.worst_case.results import Results, _carried
from experiments.worst_case.tables import attack_table, blocks_table, budget_table, chips_table, tries_table
from experiments.worst_case.targets import targets

GAUSSIANS = {f"gaussian_{sigma}": {"name": "gaussian", "sigma": sigma} for sigma in (0.1, 0.2)}
SMALL = {
    "data": ["fashion-mini"],
    "seeds": [0],
    "bounds": {0.02: 100},
    "epochs": 1,
    "baselines": {"standard": {"name": "standard", "epochs": 1}},
    "contests": {
        "th_0.02": {"judged": {"bound": 0.02, "select": "worst_case"}, "families": {"gaussian": GAUSSIANS}},
    },
    "chips": 400,
    "chip_images": 20,
    "certificate_images": 50,
    "blocks": {"families": ["standard"], "seeds": [0], "physics": "sigma_0.2", "statistics": ["mean", "worst_case"]},
    "fidelity": {"data": ["fashion-mini"], "families": ["gaussian"], "placements": 3, "parts": 2},
    "budgets": {"families": ["gaussian"], "steps": {5: 0, 10: 1}, "images": 50},
}
WORST = {"standard": 0.1, "gaussian_0.1": 0.3, "gaussian_0.2": 0.68, "gaussian_0.3": 0.7, "gaussian_0.4": 0.5}


@pytest.fixture
def plan(request):
    return Plan(**read_yaml(request.config.rootpath / "configs/experiments/worst_case.yaml"))


def scores(plan, label):
    """Return a made-up validation score: as in WORST, else by the label's length."""
    return WORST.get(label, 0.7 + len(label) / 1000)


def test_tries_are_judged_before_winners_are_measured(plan):
    rows = {}
    tries, judges, *later = plan.stages(rows)
    assert {job.recipe for job in judges} < {job.recipe for job in tries} and {job.kind for job in judges} == {"judge"}
    assert later[0] and {job.recipe for job in later[0]} == set(plan.baselines)  # no winner is known
    for job in [*tries, *judges]:
        rows[job.name] = [{"val_accuracy": scores(plan, job.recipe)}]
    _, _, *nets = list(plan.stages(rows))[:5]
    measured = {job.recipe for job in nets[0]}
    assert {"standard", "gaussian_0.1", "gaussian_0.3"} <= measured and "gaussian_0.2" not in measured
    assert [job.seed for stage in nets for job in stage] == sorted(list(plan.seeds) * len(measured))
    jobs = [job for stage in plan.stages(rows) for job in stage]
    assert len({job.name for job in jobs}) == len(jobs)


def test_every_try_is_judged_as_its_contest_says(plan):
    for contest in plan.contests.values():
        for label in contest.tries:
            task = plan.task(plan.job("net", "mnist", label, 1))
            assert task.training_seed == 1 and task.report_images == plan.bounds[plan.first_bound]
            assert task.recipe.epochs == plan.epochs and task.recipe.select == contest.judged["select"]
            assert task.recipe.bound == contest.judged["bound"]
    labels = [label for contest in plan.contests.values() for label in contest.tries]
    assert len(set(labels)) == len(labels) and plan.blocks.physics in plan.physics


@pytest.mark.slow
def test_small_jobs_of_every_kind_and_what_is_written(plan, tmp_path):
    small = Plan(**{**plan.model_dump(), **SMALL})
    journal = Journal(tmp_path / "jobs.jsonl", small.measured())
    for stage in small.stages(journal.rows):
        for job in stage:
            journal.add(job, measure(small, job, tmp_path / "runs"))
    journal = Journal(tmp_path / "jobs.jsonl", small.measured())  # as a new process reads it
    write_results(small, journal, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row)
    winner = small.winner("fashion-mini", "th_0.02", "gaussian", journal.rows)
    assert [row["recipe"] for row in kinds["try"]] == ["gaussian_0.1", "gaussian_0.2"]
    assert [row["recipe"] for row in kinds["judge"]] == ["gaussian_0.1", "gaussian_0.2"]
    assert [row["recipe"] for row in kinds["net"]] == ["standard", winner]
    assert [row["blocks"] for row in kinds["blocks"]] == ["none", "affine", "mean", "worst_case"]
    assert len(kinds["fidelity"]) == 3
    assert [(row["steps"], row["restarts"]) for row in kinds["budget"]] == [("5", "0"), ("10", "1")]
    for row in kinds["net"] + kinds["blocks"]:
        assert 0 <= float(row["worst_0.02"]) <= float(row["clean"]) <= 1
    for row in kinds["net"]:
        assert float(row["sigma_0.2_p01_low"]) <= float(row["sigma_0.2_p01"]) <= float(row["sigma_0.2_mean"])
        assert float(row["certified_0.001"]) <= float(row["certified_0.0001"])
    for row in kinds["fidelity"]:
        assert float(row["ensemble"]) <= float(row["quick"])
    assert f"fashion-mini, {winner} | 1 |" in (tmp_path / "table.md").read_text()
    figures = {"attack_strength.png", "attacks.png", "blocks.png", "worst_against_bound.png"}
    assert {path.name for path in tmp_path.glob("*.png")} == figures
    assert all(target["command"] for target in json.loads((tmp_path / "targets.json").read_text()))


def journal_of(plan, data="mnist", seeds=None, leave_out=()):
    """Return made-up rows of every job of a data set: the try's score, and a network's numbers from it."""
    rows = {}
    for stage in plan.stages(rows):
        for job in stage:
            if job.data != data or (job.kind, job.recipe, job.seed) in leave_out:
                continue
            worst = scores(plan, job.recipe)
            row = {"kind": job.kind, "data": job.data, "recipe": job.recipe, "seed": job.seed}
            if job.kind in ("try", "judge"):
                row |= {"val_accuracy": worst}
                row |= {f"val_{name}": worst for name in ("clean", "mean", "percentile", "worst_case")}
            elif job.kind == "budget":
                row |= {"steps": 25, "restarts": 2, "worst": worst}
            elif job.kind == "fidelity":
                row |= {"quick": 0.5 + job.part / 10, "ensemble": 0.4 + job.part / 10, "quick_seconds": 1.0}
                rows[job.name] = [row] * (plan.fidelity.placements // plan.fidelity.parts)
                continue
            else:
                row |= {"blocks": "mean", "weights": 0.01, "clean": 0.98, "training_time": 2.0}
                for bound in plan.bounds:
                    found = worst / 3 if bound == 0.06 else worst + 0.001 * job.seed
                    row |= {f"worst_{bound:g}": found, f"worst_{bound:g}_members": {"pgd_published": found + 0.05}}
                for bound in plan.certificate_bounds:
                    row |= {f"certified_{bound:g}": 0.95, f"attacked_{bound:g}": 0.96}
                for device in plan.physics:
                    row |= {f"{device}_{what}": worst for what in ("mean", "p01", "p05")}
            rows[job.name] = [row]
    return rows


def test_targets_compare_what_validation_chose_over_seeds(plan):
    found = targets(Results(plan, journal_of(plan)))
    longest = max(plan.contests["th_0.03"].families["a_trice"], key=len)
    ours = scores(plan, longest)
    assert found[0]["measured"] == pytest.approx(ours - 0.3) and found[0]["met"] and longest in found[0]["target"]
    assert found[1]["measured"] == pytest.approx(ours - 0.7, abs=1e-5) and "gaussian_0.3" in found[1]["target"]
    assert found[1]["met"] is False and found[1]["interval"] == pytest.approx([ours - 0.7] * 2)
    assert not found[3]["met"] and 0.9 < found[3]["measured"] < 1.1
    assert found[4]["measured"] == pytest.approx(0.05) and not found[4]["met"]
    assert found[5]["measured"] == pytest.approx(0.95) and found[5]["met"]
    assert found[6]["measured"] == pytest.approx(-0.01) and found[6]["met"]
    assert found[7]["measured"] == pytest.approx(1.0) and found[8]["measured"] == 1.0 and found[8]["met"]
    fewer = Results(plan, journal_of(plan, leave_out={("net", "gaussian_0.3", 2)}))
    assert targets(fewer)[1]["measured"] is None  # a recipe counts when all of its seeds are done


def test_every_column_of_the_tables_has_its_head(plan):
    results = Results(plan, journal_of(plan))
    for draw in (tries_table, attack_table, budget_table, chips_table, blocks_table):
        lines = [line for line in draw(results).splitlines() if line.startswith("|")]
        assert len(lines) > 3 and len({line.count("|") for line in lines}) == 1
    assert "gaussian_0.3 **chosen**" in tries_table(results)


def test_targets_without_rows_are_not_met(plan):
    assert not any(target["met"] for target in targets(Results(plan, {})))


def test_a_smaller_box_lies_within_a_larger_one():
    plan = SimpleNamespace(bounds={0.03: 10, 0.01: 5, 0.06: 5})
    row = {"worst_0.01": 0.9, "worst_0.03": 0.1, "worst_0.06": 0.4}
    assert _carried(row, plan) == {"worst_0.01": 0.9, "worst_0.03": 0.1, "worst_0.06": 0.1}
    assert _carried({"worst_0.03": 0.5}, plan) == {"worst_0.03": 0.5}
