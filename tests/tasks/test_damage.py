"""The worst case as a task's metric: evaluations, records, observations, splits."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from cimenv.core.errors import ConfigError
from cimenv.core.store import Record
from cimenv.evaluation.record import Damage, Evaluation
from cimenv.evaluation.worst_case import AttackTarget
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Objective, Task, load_task
from cimenv.tasks.damage import attack_of, attacked, transfer
from cimenv.tasks.jobs import evaluation_key
from cimenv.tasks.requests import Request

BOUND = 0.02
OVERRIDES = ["statistic=worst_case", f"worst_case.bound={BOUND}", "images=200", "chips=2", "report_images=200"]
SHORT = ["worst_case.steps=3", "worst_case.random_chips=2", "worst_case.lagrangian_rounds=1", "report_chips=2"]


@pytest.fixture(scope="module")
def evaluator(cache, toy):
    return MonteCarloEvaluator(load_task("toy-4site", [*OVERRIDES, *SHORT]))


def test_value_is_the_quick_attack_on_validation(evaluator):
    found = evaluator.evaluate((1, 1, 0, 0))
    assert found.damage.bound == BOUND and found.damage.images == 200
    assert found.value("worst_case") == found.damage.accuracy == found.damage.correct / 200
    assert 0 < found.value("worst_case") < evaluator.clean_accuracy()
    assert sum(found.damage.shares) == pytest.approx(1.0) and len(found.damage.shares) == 4
    assert attack_of(evaluator.task, "val") == evaluator.task.worst_case.quick()


def test_a_search_starts_from_what_the_ensemble_finds_without_blocks(evaluator):
    """So the placement without blocks is worth in a search what the ensemble leaves of it, or less."""
    problem, empty = evaluator.problem, evaluator.space.empty()
    quick, full = attack_of(evaluator.task, "val"), evaluator.task.worst_case
    (request,) = evaluator.requests([empty])
    cold = attacked(problem, request, quick, starts=()).correct
    ensemble = attacked(problem, request, full, starts=()).correct
    warm = evaluator.evaluate(empty).damage
    assert warm.correct <= min(cold, ensemble) and warm.correct < cold
    again = transfer(problem, "val", quick, "backbone")
    target = AttackTarget(problem.network, *problem.evaluated("val"))
    assert target.correct(again) == ensemble and max(float(d.abs().max()) for d in again.values()) <= BOUND


def test_the_start_belongs_to_the_key(evaluator):
    """A shorter ensemble finds another start, so a search's number is another."""
    shorter = evaluator.task.with_changes(worst_case={"steps": 1, "lagrangian_rounds": 0})
    other = MonteCarloEvaluator(shorter, evaluator.store)
    assert other.evaluate((1, 0, 0, 0)).key != evaluator.evaluate((1, 0, 0, 0)).key


def test_the_reference_belongs_to_the_key_of_a_report(evaluator):
    """A report's attacks start from the worst of the reference network."""
    problem, test = evaluator.problem, range(2)
    other = replace(problem, reference=copy.deepcopy(problem.reference))
    next(other.reference.parameters()).mul_(2.0)
    keys = [
        evaluation_key(each, Request.of(each.task, (1, 0, 0, 0), split, chips=test))
        for split in ("val", "test")
        for each in (problem, other)
    ]
    assert keys[0] == keys[1] and keys[2] != keys[3]


def test_report_runs_the_ensemble_on_test_images_and_transfers(evaluator):
    found = evaluator.evaluate((1, 1, 0, 0), "test")
    quick = evaluator.task.with_changes(worst_case={"steps": 10, "losses": ["ce", "margin"], "refine": False})
    weaker = MonteCarloEvaluator(quick, evaluator.store).evaluate((1, 1, 0, 0), "test")
    assert found.damage.images == 200 and found.damage.member
    assert weaker.key != found.key


def test_record_keeps_the_damage(evaluator):
    found = evaluator.evaluate((0, 0, 1, 0))
    record = Record.from_bytes(found.to_record().to_bytes("key"))
    assert Evaluation.from_record("key", record).damage == found.damage


def test_a_second_evaluator_reads_the_same_damage_from_the_store(evaluator):
    found = evaluator.evaluate((0, 0, 1, 0))
    again = MonteCarloEvaluator(evaluator.task, evaluator.store).evaluate((0, 0, 1, 0))
    assert again.damage == found.damage


def test_objective_and_search_follow_the_worst_case(evaluator):
    objective = Objective.of(evaluator)
    none = evaluator.evaluate(evaluator.space.empty())
    assert objective.acc_none == none.damage.accuracy
    found = run_search(evaluator, "knapsack")
    assert objective.value(found.evaluation) == found.objective >= 0


def test_environment_pays_for_the_worst_case_and_shows_its_shares(evaluator):
    env = gym.make("CiMCompensation-v0", evaluator=evaluator)
    seen, info = env.reset(seed=0)
    none = evaluator.evaluate((0, 0, 0, 0))
    names = env.unwrapped.layout.names
    shares = [seen[names.index(f"site{s}.worst_share")] for s in range(4)]
    assert shares == pytest.approx(none.damage.shares, abs=1e-6)
    assert seen[names.index("statistic_worst_case")] == 1.0 and info["accuracy"] == none.damage.accuracy
    seen, reward, _, _, info = env.step(np.int64(1))
    placed = evaluator.evaluate((1, 0, 0, 0))
    assert info["accuracy"] == placed.damage.accuracy
    assert reward == pytest.approx(Objective.of(evaluator).value(placed))


def test_other_metrics_have_no_damage(toy):
    with pytest.raises(ConfigError, match="no measured worst case"):
        toy.evaluate((0, 0, 0, 0)).value("worst_case")
    assert toy.evaluate((0, 0, 0, 0)).damage is None
    assert Damage(0.1, 3, 4, "x", (1.0,)).accuracy == 0.75


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"worst_case": {"bound": 0}}, "Task.worst_case.bound: got 0"),
        ({"worst_case": {"losses": []}}, "Task.worst_case.losses: got \\[\\]"),
        ({"statistic": "worst_case", "crossbar": {"batch_norm": "per_chip"}}, "no chip to calibrate on"),
        ({"statistic": "percentile", "chips": 58}, "needs at least 59"),
        ({"statistic": "percentile", "percentile": 0.01, "chips": 100}, "needs at least 299"),
    ],
)
def test_bad_tasks_are_refused(changes, named):
    with pytest.raises(ConfigError, match=named):
        Task(**changes)
