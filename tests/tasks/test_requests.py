"""What is asked of an evaluation, and where it is computed."""

import pytest

from cimenv.core.errors import ConfigError
from cimenv.tasks.engines import Engines
from cimenv.tasks.jobs import run_job
from cimenv.tasks.requests import Compute, Request, alike

ONE, TWO = (0, 0, 0, 0), (1, 0, 2, 0)


def test_a_request_takes_chips_and_times_from_the_task(toy):
    task = toy.task.with_changes(times_s=(0.0, 60.0))
    assert Request.of(task, ONE) == Request(ONE, "val", "bank", range(task.chips), (0.0, 60.0))
    assert Request.of(task, ONE, "test").chips == range(task.report_chips)
    assert Request.of(task, ONE, chips=range(2, 4)).chips == range(2, 4)
    assert toy.requests([ONE, TWO], "test", chips=3)[1] == Request(TWO, "test", "bank", range(3), toy.task.times_s)


def test_requests_under_equal_conditions_are_one_group(toy):
    val, test = toy.requests([ONE, TWO], chips=2), toy.requests([TWO], "test", chips=2)
    assert alike([val[0], *test, val[1]]) == [val, test]


def test_a_job_of_mixed_requests_answers_in_their_order(toy):
    asked = [*toy.requests([TWO], chips=2), *toy.requests([ONE], "test", chips=1), *toy.requests([ONE], chips=2)]
    found = run_job(Engines(toy.problem), asked, Compute(1))
    assert [(each.placement, each.split) for each in found] == [(TWO, "val"), (ONE, "test"), (ONE, "val")]
    for request, each in zip(asked, found, strict=True):
        alone = toy.evaluate(request.placement, request.split, chips=request.chips)
        assert alone.key == each.key and (alone.values == each.values).all() and alone.cost == each.cost
    assert [each.key for each in toy.answers(asked)] == [each.key for each in found]


def test_engines_of_the_bank_are_kept(toy):
    engines = Engines(toy.problem)
    assert engines.of("val", Compute(1)) is engines.of("val", Compute(1))
    assert engines.of("val", Compute(1)) is not engines.of("val", Compute(2))
    tuned = toy.problem.tuned_bank(TWO)
    assert engines.of("val", Compute(1), tuned) is not engines.of("val", Compute(1), tuned)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": 2.5}, "threads"),
        ({"device": "tpu"}, "use cpu, or cuda"),
        ({"progress": 3}, "progress: got 3; give cimenv.core.progress"),
    ],
)
def test_where_nothing_can_be_computed_is_one_sentence(fields, words):
    with pytest.raises(ConfigError, match=words):
        Compute(**fields)
