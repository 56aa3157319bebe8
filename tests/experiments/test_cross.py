"""The experiment on trainings under physics: its plan, one small job, table and figure from rows."""

import csv

import pytest

from cimenv.core.config import read_yaml
from experiments.cross.measure import measure
from experiments.cross.plan import Plan
from experiments.cross.report import Results, best, everything, write_results
from experiments.lab.journal import Journal

SMALL = {
    "data": ["fashion-mini"],
    "seeds": [0],
    "recipes": {"standard": {"name": "standard", "epochs": 1}},
    "physics": {"lognormal": {"crossbar": {"preset": "lognormal"}}},
    "search": {"chips": 2, "images": 100, "bank": {"steps": 20}, "tuned": {"steps": 5}, "budget": {"weights": 0.05}},
    "chips": 3,
    "images": 100,
}


@pytest.fixture
def plan(request):
    return Plan(**read_yaml(request.config.rootpath / "configs/experiments/cross.yaml"))


def test_every_recipe_meets_every_physics(plan):
    jobs = [job for stage in plan.stages() for job in stage]
    assert len({job.name for job in jobs}) == len(jobs) == 6 * 4 * 3
    tasks = [plan.task(job) for job in jobs]
    assert {task.recipe.name for task in tasks} == {"standard", "lipschitz", "noise", "trice", "a_trice", "hwa"}
    assert {task.crossbar.device.kind for task in tasks} == {"log_normal", "bit_sliced_gaussian", "pcm"}
    assert all((task.times_s == (86_400.0,)) == task.crossbar.analog for task in tasks)
    assert {task.trained_for.device.kind for task in tasks} == {"pcm"} and {len(t.budget) for t in tasks} == {1}


def row(recipe, blocks, correct, seed=0):
    fields = {"data": "fashion", "physics": "lognormal", "seed": seed, "placement": [0] * 5}
    fields |= {"weights": 0.01, "macs": 0.25}
    return {**fields, "recipe": recipe, "blocks": blocks, "clean": 0.9, "images": 1_000, "correct": correct}


def test_table_and_winner_from_rows(plan, tmp_path):
    """Two chips: noise leads standard by (.83 + .85 - .80 - .80) / 2 = 4 points; without seeds apart it is paired."""
    journal = Journal(tmp_path / "jobs.jsonl", plan.measured())
    for recipe, chips in (("standard", [800, 800]), ("noise", [830, 850])):
        rows = [row(recipe, blocks, chips) for blocks in ("none", "affine", "digital", "greedy")]
        journal.add(plan.job("fashion", recipe, "lognormal", 0), rows)
    results = Results(plan, journal)
    assert "| fashion, lognormal | standard | 1 | 90.0% | 80.0% ± 0.0% (80.0%) |" in everything(results)
    assert everything(results).count("| 1.0%, 25% | 1.0%, 25% |") == 2
    assert "| fashion, lognormal | no blocks | noise | 4.0% ± 12.7% (standard) | 4.0% ± 12.7% |" in best(results)
    write_results(plan, journal, tmp_path)
    assert (tmp_path / "fashion.png").stat().st_size > 10_000
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


@pytest.mark.slow
def test_a_small_job(plan, tmp_path):
    small = Plan(**{**plan.model_dump(), **SMALL})
    (job,) = [job for stage in small.stages() for job in stage]
    rows = measure(small, job, tmp_path)
    assert [found["blocks"] for found in rows] == ["none", "affine", "greedy", "digital"]
    assert all(len(found["correct"]) == 3 and found["weights"] <= 0.05 + 1e-9 for found in rows)
