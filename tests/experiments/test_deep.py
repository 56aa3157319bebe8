"""The experiment on deep networks: its plan, one small job of each kind, tables and targets from rows."""

import json

import numpy as np
import pytest

from cimenv.core.config import read_yaml
from experiments.deep.measure import largest_within, measure, with_affine
from experiments.deep.plan import Plan
from experiments.deep.report import targets, write_results
from experiments.lab.journal import Journal

TINY = {
    "extends": "vgg16-two-digit",
    "data": "fashion-mini",
    "backbone_args": {"classes": 10, "width": 0.0625, "padding": 2},
    "crossbar": {"device": {"sigma": 0.3}},
    "reference": {"name": "standard", "epochs": 1},
    "candidates": ["features.conv1_2", "features.conv2_1"],
}
SMALL = {
    "problems": {
        "tiny": {"task": TINY, "recipes": {"noise": {"name": "noise", "epochs": 1}}, "blocks": ["noise"]},
    },
    "data": ["fashion-mini"],
    "sigmas": [0.0, 0.3],
    "curve_chips": 3,
    "search": {"chips": 2, "images": 50, "bank": {"steps": 3}, "tuned": {"steps": 2}, "budget": {"weights": 0.02}},
    "chips": 3,
    "images": 50,
    "agent_evaluations": 4,
    "agent_steps": 64,
}


@pytest.fixture
def shipped(request):
    return read_yaml(request.config.rootpath / "configs/experiments/deep.yaml")


def test_the_shipped_plan_has_a_task_for_every_job(shipped):
    plan = Plan(**shipped)
    jobs = [job for stage in plan.stages() for job in stage]
    assert len({job.name for job in jobs}) == len(jobs) and {job.kind for job in jobs} == {"curve", "blocks"}
    tasks = [plan.task(job) for job in jobs]
    assert {task.crossbar.device.sigma for task in tasks} == {0.5, 0.8, 1.0}
    assert all(task.budget == {"weights": 0.02, "macs": 0.1} and task.report_chips == 100 for task in tasks)
    assert any(not task.backbone_args.get("batch_norm", True) for task in tasks)


@pytest.mark.slow
def test_small_jobs_give_tables_figures_and_targets(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.deep.measure.WHOLE_SPLIT", 50)
    plan = Plan(**{**shipped, **SMALL})
    journal = Journal(tmp_path / "jobs.jsonl", plan.measured())
    for stage in plan.stages():
        for job in stage:
            journal.add(job, measure(plan, job, tmp_path))
    rows = journal.finished(plan.stages())
    curve = [row for row in rows if row["kind"] == "curve"]
    assert [(row["statistics"], row["sigma"]) for row in curve] == [
        ("none", 0.0), ("none", 0.3), ("shared", 0.3), ("per_chip", 0.3), ("float32", 0.3)
    ]  # fmt: skip
    placed = {row["method"]: row for row in rows if row["kind"] == "blocks"}
    assert placed["all"]["weights"] <= 0.02 and placed["none"]["weights"] == 0
    assert placed["digital"]["weights"] <= placed["agent"]["weights"] + 1e-9
    assert len(placed["affine"]["placement"]) == len(placed["none"]["site_error"]) == 16
    write_results(plan, journal, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert f"{np.mean(placed['all']['correct']) / 50:.1%}" in text and "of every chip (a calibration)" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {"collapse.png", "recovery.png", "error_growth.png"}
    assert not any(each["met"] for each in json.loads((tmp_path / "targets.json").read_text()))


def test_the_largest_blocks_keep_the_budget(toy):
    from cimenv.tasks import MonteCarloEvaluator

    options = {"conv": [{"kind": "affine"}, {"kind": "full", "size": 0.5}]}
    options["dense"] = [{"kind": "affine"}, {"kind": "low_rank", "size": 0.125}]
    evaluator = MonteCarloEvaluator(toy.task.with_changes(budget={"weights": 0.02}, options=options), toy.store)
    found = largest_within(evaluator)
    assert evaluator.space.feasible(found) and not evaluator.space.affordable(found)[:, 1:].any()
    assert all(o == 1 for o, was in zip(with_affine(evaluator, (0,) * 4), found, strict=True)) and any(found)


def test_targets_take_the_placement_that_is_best_on_validation_within_the_cost():
    def row(method, mean, weights, macs, validation=0.9):
        fields = {"kind": "blocks", "problem": "two-digit-0.8", "recipe": "noise", "method": method, "mean": mean}
        cost = {"weights": weights, "macs": macs}
        return {**fields, **cost, "sigma": 0.8, "standard_clean": 0.99, "validation": validation}

    rows = [row("agent", 0.95, 0.01, 0.09), row("affine", 0.96, 0.01, 0.0, validation=0.8)]
    rows += [row("all", 0.97, 0.03, 0.05, validation=1.0), row("digital", 0.98, 0.01, 0.01, validation=1.0)]
    (found,) = [each for each in targets(rows) if each["target"].startswith("two-digit-0.8")]
    assert found["measured"] == pytest.approx(0.95 / 0.99) and not found["met"]
    assert targets(rows)[-1]["measured"] == 0.8 and targets(rows)[-2]["measured"] is None
