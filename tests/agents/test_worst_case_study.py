"""The study of the worst case: its plan, one small job of each kind, tables and targets from rows."""

import csv
import json

import pytest

from agents.study import Journal
from agents.worst_case.measure import measure
from agents.worst_case.plan import Plan
from agents.worst_case.report import Results, table, targets, write_results
from cimenv.core.config import read_yaml

SMALL = {
    "data": ["fashion-mini"],
    "seeds": [0],
    "bounds": [0.02],
    "epochs": 1,
    "recipes": {"standard": {"name": "standard", "epochs": 1}, "gaussian_0.1": {"name": "gaussian", "sigma": 0.1}},
    "stronger": {"bound": 0.02, "recipes": {}},
    "attack_images": 100,
    "chips": 400,
    "chip_images": 20,
    "certificate_images": 50,
}


@pytest.fixture
def plan(request):
    return Plan(**read_yaml(request.config.rootpath / "configs/studies/worst_case.yaml"))


def test_plan_names_every_job_once_and_every_recipe_is_one(plan):
    jobs = [job for stage in plan.stages() for job in stage]
    assert len({job.name for job in jobs}) == len(jobs)
    for label in (*plan.recipes, *plan.stronger.recipes):
        task = plan.task(plan.job("net", "mnist", label, 1))
        strong = label in plan.stronger.recipes
        assert task.training_seed == 1 and task.report_images == plan.attack_images
        if hasattr(task.recipe, "bound"):
            assert task.recipe.bound == (plan.stronger.bound if strong else plan.judged_for)
            assert task.recipe.epochs == plan.epochs and task.recipe.select == "worst_case"
    assert set(plan.blocks.recipes) <= set(plan.recipes) and plan.blocks.physics in plan.physics


@pytest.mark.slow
def test_small_jobs_of_both_kinds_and_what_is_written(plan, tmp_path):
    blocks = {**plan.blocks.model_dump(), "recipes": ["standard"], "seeds": [0], "metrics": ["mean", "worst_case"]}
    small = Plan(**{**plan.model_dump(), **SMALL, "blocks": blocks})
    journal = Journal(tmp_path / "jobs.jsonl", small.measured())
    for stage in small.stages():
        for job in stage:
            journal.add(job, measure(small, job, tmp_path / "runs"))
    write_results(small, journal, tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    nets, placed = [r for r in rows if r["training_time"]], [r for r in rows if not r["training_time"]]
    assert [row["recipe"] for row in nets] == ["standard", "gaussian_0.1"]
    assert [row["blocks"] for row in placed] == ["mean", "none", "affine", "worst_case"]
    for row in rows:
        assert 0 <= float(row["worst_0.02"]) <= float(row["clean"]) <= 1
    for row in nets:
        assert float(row["sigma_0.2_p01_low"]) <= float(row["sigma_0.2_p01"]) <= float(row["sigma_0.2_mean"])
        assert float(row["certified_0.001"]) <= float(row["certified_0.0001"])
    assert "fashion-mini, gaussian_0.1 | 1 |" in (tmp_path / "table.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "attack_strength.png",
        "attacks.png",
        "worst_against_bound.png",
    }
    assert all(target["command"] for target in json.loads((tmp_path / "targets.json").read_text()))


def row(recipe, seed, worst, **more):
    fields = {"data": "mnist", "recipe": recipe, "seed": seed, "training_time": 1.0, "clean": 0.98}
    fields |= {"worst_0.03": worst, "worst_0.06": worst / 3, "worst_0.03_members": {"pgd_published": worst + 0.05}}
    fields |= {"val_worst_case": worst + 0.02, "val_percentile": 0.8}
    for bound in (0.0001, 0.0003, 0.001):
        fields |= {f"certified_{bound:g}": 0.95, f"attacked_{bound:g}": 0.96}
    return {**fields, "sigma_0.2_mean": 0.9, "sigma_0.3_p05": 0.8, **more}


def test_targets_compare_the_best_of_each_family_over_seeds(plan):
    rows = [row("gaussian_0.1", seed, 0.3) for seed in range(3)]
    rows += [row("gaussian_0.3", seed, 0.7) for seed in range(3)]
    rows += [row("a_trice_ce_mean", seed, 0.5) for seed in range(3)]
    rows += [
        row("a_trice_ce_sample_2", seed, 0.75 + 0.01 * seed, **{"sigma_0.3_p05": 0.83, "val_percentile": 0.82})
        for seed in range(3)
    ]
    found = targets(Results(plan, rows))
    assert (
        found[0]["measured"] == pytest.approx(0.46) and found[0]["met"] and "a_trice_ce_sample_2" in found[0]["target"]
    )
    assert found[1]["measured"] == pytest.approx(0.06) and found[1]["met"] and "gaussian_0.3" in found[1]["target"]
    assert found[2]["measured"] == pytest.approx(0.03) and found[2]["met"]
    assert found[3]["measured"] is None and not found[3]["met"]  # no recipe for the larger bound was trained
    assert found[4]["measured"] == pytest.approx(0.05) and not found[4]["met"]
    assert found[5]["measured"] == pytest.approx(0.95) and found[5]["met"]
    assert found[6]["measured"] == pytest.approx(-0.01) and found[6]["met"]
    fewer = Results(plan, [r for r in rows if (r["recipe"], r["seed"]) != ("gaussian_0.3", 2)])
    assert "gaussian_0.3" not in targets(fewer)[1]["target"]  # a recipe counts when all seeds are done


def test_every_column_of_the_table_has_its_head(plan):
    more = {f"{device}_{what}": 0.5 for device in plan.physics for what in ("mean", "p01", "p05")}
    found = table(Results(plan, [row("gaussian_0.1", 0, 0.3, **more, **{"worst_0.01": 0.9})])).splitlines()
    head, ruler, cells = found[-3:]
    assert head.count("|") == ruler.count("|") == cells.count("|")
    assert cells.endswith("| 95.0% (96.0%) | 95.0% (96.0%) | 95.0% (96.0%) | 1.0 x |")


def test_targets_without_rows_are_not_met(plan):
    assert not any(target["met"] for target in targets(Results(plan, [])))
