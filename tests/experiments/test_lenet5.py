"""The LeNet-5 experiment: its plan, how rows are merged, its statistics against scipy's."""

import numpy as np
import pytest
from scipy import stats

from cimenv.core.config import read_yaml
from cimenv.core.errors import ConfigError
from experiments.lab.journal import Journal
from experiments.lenet5.plan import Job, Plan
from experiments.lenet5.report import Results, merged, targets, text_of

CHIPS, IMAGES = 40, 500


@pytest.fixture
def plan(request):
    return Plan(**read_yaml(request.config.rootpath / "configs/experiments/lenet5.yaml"))


def row(job, method, seed, accuracy, **more):
    correct = np.round(np.asarray(accuracy) * IMAGES).astype(int)
    fields = {"data": "fashion", "recipe": "standard", "seed": seed, "sigma": 0.5, "method": method}
    fields |= {"mean": float(correct.mean() / IMAGES), "std": 0.01, "images": IMAGES, "correct": correct.tolist()}
    fields |= {"standard_clean": 0.9, "weights": 0.02, "macs": 0.1, "scalar_cost": 0.1, "site_error": [0.1, 0.2]}
    return {"job": job, **fields, **more}


def test_plan_counts_every_job_once(plan):
    jobs = [job for stage in plan.stages() for job in stage]
    assert len({job.name for job in jobs}) == len(jobs)
    kinds = [job.kind for job in jobs]
    pairs = len(plan.data) * len(plan.seeds)
    assert kinds.count("bare") == pairs * len(plan.recipes)
    seeds = sum(len(seeds) for seeds in plan.block_seeds)
    assert kinds.count("blocks") == len(plan.data) * len(plan.block_recipes) * seeds
    seen = set()
    for stage in plan.stages():
        assert all(not job.of or job.parent in seen for job in stage)
        seen |= {job.name for job in stage}


def test_tasks_say_what_the_yaml_says(plan):
    task = plan.task(Job("blocks", "mnist", "noise", 2, 0.3), 0.3)
    assert (task.data, task.recipe.name, task.recipe.sigma, task.crossbar.device.sigma) == ("mnist", "noise", 0.5, 0.3)
    assert (task.training_seed, task.report_chips, task.report_images) == (2, plan.chips, plan.images)


def test_tails_are_merged_into_the_rows_of_their_job(plan, tmp_path):
    journal = Journal(tmp_path / "jobs.jsonl", plan.measured())
    job = Job("blocks", "fashion", "standard", 0, 0.5)
    assert job.following("tail").parent == job.name
    first = row("blocks", "none", 0, np.full(CHIPS, 0.7))
    same = {name: first[name] for name in ("data", "recipe", "seed", "sigma", "method")}
    journal.add(job, [first])
    journal.add(job.following("tail"), [{**same, "p01": 0.6}])
    assert merged(plan, Journal(journal.path, plan.measured())) == [{**first, "p01": 0.6}]


def test_a_killed_journal_loses_only_the_line_it_wrote(plan, tmp_path):
    journal = Journal(tmp_path / "jobs.jsonl", plan.measured())
    jobs = plan.stages()[0][:2]
    for job in jobs:
        journal.add(job, [{"method": "none"}])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-5])
    again = Journal(journal.path, plan.measured())
    assert jobs[0] in again and jobs[1] not in again
    again.add(jobs[1], [{"method": "none"}])
    assert journal.path.read_bytes() == whole
    more = Plan(**{**plan.model_dump(), "seeds": (0, 1, 2, 3)})
    assert jobs[1] in Journal(journal.path, more.measured())
    with pytest.raises(ConfigError, match="another plan"):
        Journal(journal.path, Plan(**{**plan.model_dump(), "chips": 7}).measured())


def test_paired_gain_equals_scipys_paired_interval(plan):
    generator = np.random.default_rng(0)
    theirs = generator.normal(0.75, 0.05, CHIPS).round(2)
    ours = (theirs + generator.normal(0.03, 0.01, CHIPS)).round(2)
    results = Results(plan, [row("blocks", "agent", 0, ours), row("blocks", "affine", 0, theirs)])
    mean, low, high = results.gain("affine", data="fashion", recipe="standard", sigma=0.5)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert mean == pytest.approx((ours - theirs).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_targets_that_were_not_measured_are_not_met(plan):
    rows = [row("blocks", method, 0, np.full(CHIPS, value)) for method, value in (("agent", 0.85), ("none", 0.75))]
    found = {target["target"]: target for target in targets(Results(plan, rows))}
    lifted = found["fashion, standard, sigma 0.5: blocks alone, agent"]
    assert lifted["met"] and lifted["measured"] == 0.85 and lifted["without"] == pytest.approx(0.75)
    missing = found["mnist: clean accuracy, recipe standard"]
    assert missing["measured"] is None and not missing["met"]
    assert all(set(target) >= {"target", "bound", "measured", "met", "command"} for target in found.values())
    assert "| fashion, standard | agent | 1 | 85.0% |" in text_of(Results(plan, rows))
