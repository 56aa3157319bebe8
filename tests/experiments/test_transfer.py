"""Policies on unseen tasks: what is held out, what they are compared with, one small training."""

import json

import numpy as np
import pytest

from cimenv.core.config import read_yaml
from cimenv.core.errors import ConfigError
from cimenv.envs import CompensationTabularEnv
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, SUFFIX, TableEvaluator, shipped_tables
from experiments.lab.journal import Journal
from experiments.transfer.fronts import hypervolume, share_of_exact
from experiments.transfer.measure import measure
from experiments.transfer.plan import Plan
from experiments.transfer.policy import choices, first_choice, trained
from experiments.transfer.report import methods, write_results
from experiments.transfer.rivals import best_rule, placed, regret, rules

NAME = "lenet5-fashion-mini"


@pytest.fixture(scope="module")
def plan(request, tmp_path_factory):
    """Two copies of the shipped table stand for two tasks."""
    fields = read_yaml(request.config.rootpath / "configs/experiments/transfer.yaml")
    other = tmp_path_factory.mktemp("tables") / f"other{SUFFIX}"
    other.write_bytes((SHIPPED_TABLES / f"{NAME}{SUFFIX}").read_bytes())
    small = {
        "tables": [NAME, str(other)],
        "held_out": {"data": ["*other*"]},
        "variants": [{}, {"cost_weight": 1.0}],
        "seeds": 2,
        "committees": 1,
        "max_sites": 6,
        "copies": 8,
        **{kind: {**fields[kind], "steps": 6_000} for kind in ("policy", "errors_only")},
        "front_evaluations": [13],
        "searches": {"random": {}},
    }
    return Plan(**{**fields, **small})


def test_every_table_of_the_shipped_plan_is_held_out_by_a_pattern_or_trained_on(request):
    plan = Plan(**read_yaml(request.config.rootpath / "configs/experiments/transfer.yaml"))
    planned = read_yaml(request.config.rootpath / "configs/experiments/tables.yaml")
    assert set(plan.tables) == set(shipped_tables()) <= set(planned)
    for name in plan.held_out:
        seen, unseen = plan.split(name)
        assert seen and unseen and not set(seen) & set(unseen) and len(seen) + len(unseen) == len(plan.tables)


def test_a_pattern_that_holds_out_everything_is_refused(plan):
    with pytest.raises(ConfigError, match="matches 2 of 2 tables; leave some on either side"):
        Plan(**{**plan.model_dump(), "held_out": {"data": ["*"]}})


def test_rules_look_at_errors_only_and_keep_budgets():
    evaluator = TableEvaluator(NAME, {"budget": {"weights": 0.02}})
    everyone = {rule: placed(rule, evaluator) for rule in rules()}
    assert len(everyone) == 1 + 4 * 4 * 3 and all(evaluator.space.feasible(p) for p in everyone.values())
    assert everyone["none"] == (0,) * 5 and everyone["first 0.5 1"] == (1, 1, 1, 0, 0)
    assert all(any(p) for rule, p in everyone.items() if rule != "none")
    best = best_rule([evaluator])
    assert regret(everyone[best], evaluator) == min(regret(p, evaluator) for p in everyone.values())


def test_a_policy_learns_and_looks_at_no_evaluation(plan):
    """After 6,000 steps on the one table its favourite beats no blocks; observations stay those of none."""
    model = trained(plan, plan.policy, [NAME], 0)
    env = CompensationTabularEnv(NAME, feedback="reset", max_sites=6, fit_log=True)
    assert regret(first_choice([model], env), env.table) < regret((0,) * 5, env.table)
    found = choices([model], env, 10, 0)
    assert len(set(found)) == len(found) == 10 and found[0] == (0,) * 5 and found[1] == first_choice([model], env)
    assert all(env.table.space.feasible(p) for p in found)
    names = np.array(env.layout.names)
    of_evaluations = np.char.find(names, ".error_") >= 0
    of_evaluations |= np.isin(names, ["score", "acc_none", "acc_ref"])
    at_reset, info = env.reset()
    while not info["evaluated"] or not any(info["placement"] > 0):
        seen, _, done, _, info = env.step(np.int64(np.flatnonzero(info["action_mask"])[-1]))
        assert np.array_equal(seen[of_evaluations], at_reset[of_evaluations])
    assert done


@pytest.mark.slow
def test_jobs_tables_and_targets(plan, tmp_path):
    short = {kind: getattr(plan, kind).model_copy(update={"steps": 512}) for kind in ("policy", "errors_only")}
    plan = plan.model_copy(update=short)
    journal = Journal(tmp_path / "jobs.jsonl", plan.measured())
    jobs = [job for stage in plan.stages(journal.rows) for job in stage]
    assert [job.kind for job in jobs] == ["rivals", "experience", *["policy"] * 2, *["errors_only"] * 2, "committee"]
    assert plan.members(jobs[6]) == jobs[2:4] and plan.members(jobs[4]) == jobs[4:5]
    assert [plan.training(job).fit_log for job in jobs[2:]] == [True, True, False, False, True]
    for job in (*jobs[:3], jobs[4], jobs[6]):
        journal.add(job, measure(plan, job, tmp_path / "runs"))
    assert all((tmp_path / "runs" / f"{job.name}.zip").exists() for job in jobs[2:5])  # the committee needed both
    write_results(plan, journal, tmp_path)
    rows = [row for job in (*jobs[:3], jobs[4]) for row in journal.rows[job.name] if row["unseen"]]
    by_method = methods(rows)
    assert by_method["policy", "0"].shape == (1, 2) and by_method["random", "10"].shape == (2, 2)
    assert np.isfinite(by_method["knapsack", "its own"]).all()
    text = (tmp_path / "table.md").read_text()
    named = [each["target"] for each in json.loads((tmp_path / "targets.json").read_text())]
    assert {f"{each}, data: regret at 10 beyond random at 10" for each in ("policy", "committee", "transfer")} <= set(
        named
    )
    assert len(named) == 4 * 5 and by_method["transfer", "its own"].max() == 0.0  # it was taught the same table
    assert text.count("| data | ") == len(by_method) + 2 + 4 and "largest everywhere" in text


def test_a_job_is_another_one_when_what_it_measures_changes(plan):
    longer = plan.model_copy(update={"policy": plan.policy.model_copy(update={"steps": 7_000})})
    cheaper = plan.model_copy(update={"searches": {"greedy": {}}})
    for other, changed in ((longer, {"policy", "committee"}), (cheaper, {"rivals"})):
        kinds = ("rivals", "experience", "policy", "errors_only", "committee")
        assert {kind for kind in kinds if plan.job(kind, "data") != other.job(kind, "data")} == changed


def test_hypervolume_is_an_area():
    """Scores 1 from cost 1 and 3 from cost 2, up to 4: 1 x 1 + 3 x 2; what is dominated or beyond adds nothing."""
    found = np.array([[0.0, 0.0], [2.0, 3.0], [1.0, 1.0], [3.0, 2.0], [9.0, 5.0]])
    assert hypervolume(found, 4.0) == 7.0
    evaluator = TableEvaluator(NAME)
    assert share_of_exact(evaluator.space.all_placements(), evaluator) == pytest.approx(1.0, abs=1e-12)
    assert share_of_exact([evaluator.space.empty()], evaluator) == 0.0
