"""A search is one bar after one line that says about how long it takes."""

from contextlib import contextmanager

import pytest

from cimenv.core.progress import Told, silent
from cimenv.core.store import Store
from cimenv.search import run_search
from cimenv.search.course import Bars, Course, stages
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.own import own_task
from cimenv.tasks.requests import Compute


class Recorded:
    """Bars that remember what they were told."""

    def __init__(self):
        self.opened, self.said, self.descriptions, self.steps = [], [], [], []

    @contextmanager
    def __call__(self, description, total, done=0):
        self.opened.append((description, total))
        yield RecordedBar(self)


class RecordedBar:
    def __init__(self, record):
        self.record = record

    def __call__(self, steps=1):
        self.record.steps.append(steps)

    def describe(self, description, total):
        self.record.descriptions.append((description, total))

    def say(self, line, instead=False):
        self.record.said.append(line)


@pytest.fixture
def evaluator(nearest, prototypes, quick):
    fields = {name: quick[name] for name in ("bank", "chips", "images")}
    task, objects = own_task("test", nearest, prototypes, quick["crossbar"], fields)
    return MonteCarloEvaluator(task, Store(quick["store"]), objects=objects)


def test_a_search_shows_one_bar_and_says_once_how_long_it_takes(evaluator):
    _ = evaluator.problem
    shown = Recorded()
    evaluator.compute = Compute(progress=shown)
    found = run_search(evaluator, "exhaustive")
    assert shown.opened == [("evaluation 1", 1)] and sum(shown.steps) == found.evaluations == 4
    (line,) = shown.said
    assert line.startswith("exhaustive search: at least 4 evaluations of 12 chips x 50 images, ") and "about" in line
    assert shown.descriptions[-1] == (f"evaluation 4 of 4, best so far J {found.objective:.3f}", 4)
    assert ("evaluation 2 of 4, best so far J 0.000", 4) in shown.descriptions
    assert evaluator.compute.progress is shown


def test_what_is_known_takes_no_time_and_a_limit_is_the_total(evaluator):
    run_search(evaluator, "exhaustive")
    shown = Recorded()
    evaluator.compute = Compute(progress=shown)
    run_search(evaluator, "random", 3)
    assert shown.said == [] and shown.opened == [("evaluation 1", 3)] and sum(shown.steps) == 3


def test_a_search_that_fails_puts_the_bars_back(evaluator, monkeypatch):
    before = Recorded()
    evaluator.compute = Compute(progress=before)
    _ = evaluator.problem
    monkeypatch.setattr(MonteCarloEvaluator, "answers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_search(evaluator, "greedy")
    assert evaluator.compute.progress is before


def test_bars_of_an_evaluation_move_the_searchs_by_their_share():
    shown, now = Recorded(), [0.0]
    bars = Bars()
    course = Course("greedy", None, "2 chips x 9 images", RecordedBar(shown), bars, times=2)
    course.begin(1)
    course.end(0.0)
    course.begin(8)
    for _ in range(2):  # one bar for every time of the task
        with bars.open("evaluating chips", 4) as advance:
            for _ in range(4):
                advance()
                now.append(sum(shown.steps))
    assert now[1:] == [2, 3, 4, 5, 6, 7, 8, 9]  # the empty placement and eighths of eight
    course.end(0.5)
    assert sum(shown.steps) == 9 and shown.descriptions[-1][0] == "evaluation 9 of 9, best so far J 0.500"


def test_stages_are_one_bar_by_their_weights(evaluator):
    shown = Recorded()
    evaluator.compute = Compute(progress=shown)
    with stages(evaluator, "reporting", 10.0) as work:
        with work.piece(4.0, 2), evaluator.compute.progress("tuning", 10) as advance:
            advance(5)
            assert sum(shown.steps) == 10  # half of the first of two bars, which are 40 % together
        assert sum(shown.steps) == 40
        with work.piece(6.0):
            work.say("half done")
    assert sum(shown.steps) == 100 and shown.opened == [("reporting", 100)] and shown.said == ["half done"]


def test_silence_is_kept(evaluator, capsys):
    assert evaluator.compute.progress is silent and not isinstance(lambda steps=1: None, Told)
    run_search(evaluator, "greedy", 3)
    assert capsys.readouterr() == ("", "")
