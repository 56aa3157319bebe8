"""The course of a search as one bar, in the place of a bar for every evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from cimenv.core.progress import Advance, Told, duration
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator


class Course:
    """The progress of a search: its evaluations on one bar, after one estimate of the time.

    Args:
        method: of the search.
        limit: the most evaluations that it may take, if there is a limit.
        each: what an evaluation is: chips x images.
        advance: moves the bar.
        bars: those of the evaluator, if it has any.
        times: bars of one evaluation.
    """

    def __init__(
        self, method: str, limit: int | None, each: str, advance: Advance, bars: Bars | None = None, times: int = 1
    ) -> None:
        self.method, self.limit, self.each, self.advance = method, limit, each, advance
        self.bars, self.times = bars or Bars(), times
        self.seen, self.total, self.rounds = 0, limit or 1, 0
        self._best = ""
        self._said = False
        self._under_way, self._counted, self._share, self._start = 0, 0, 0.0, 0.0
        self._computed, self._seconds = 0.0, 0.0  # evaluations that were not found in the store, and their time

    def begin(self, evaluations: int) -> None:
        """Take note that so many new evaluations begin."""
        self.total = self.limit or self.seen + evaluations
        self.rounds += 1
        self.bars.expect(self.times, self.move)
        self._under_way, self._counted, self._share, self._start = evaluations, 0, 0.0, time.monotonic()
        self._tell_time()
        self._describe()

    def move(self, share: float) -> None:
        """Take note that this share of what began has been computed."""
        self._share = share
        self._tell_time()
        self._count(int(share * self._under_way))

    def end(self, best: float) -> None:
        """Take note that what began is over, and of the best objective so far."""
        self._count(self._under_way)
        if self._share:
            self._computed, self._seconds = self._computed + self._under_way, self._seconds + self._elapsed()
        self.seen, self._under_way, self._share = self.seen + self._under_way, 0, 0.0
        self._best = f", best so far J {best:.3f}"
        self._describe()

    def say(self, line: str, instead: bool = False) -> None:
        """Print a line, where the bar can; see `Told.say`."""
        if isinstance(self.advance, Told):
            self.advance.say(line, instead)

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _count(self, evaluations: int) -> None:
        if evaluations > self._counted:
            new, self._counted = evaluations - self._counted, evaluations
            self.advance(new)
            self._describe()

    def _describe(self) -> None:
        if isinstance(self.advance, Told):
            number = min(self.seen + self._counted + 1, self.total)
            self.advance.describe(f"evaluation {number} of {self.total}{self._best}", self.total)

    def _tell_time(self) -> None:
        """Say how long the search will take, once an evaluation was timed and the first round is known."""
        computed = self._computed + self._share * self._under_way
        if self._said or self.rounds < 2 or computed < 1:
            return
        each = (self._seconds + (self._elapsed() if self._share else 0.0)) / computed
        left = duration(each * (self.total - self.seen))
        bound = "at most" if self.limit else "at least"
        self.say(
            f"{self.method} search: {bound} {self.total} evaluations of {self.each}, {each:.2g} s each: about {left}",
            instead=True,
        )
        self._said = True


def _unseen(steps: int = 1) -> None:
    del steps


@contextmanager
def shown(evaluator: Evaluator, method: str, limit: int | None) -> Iterator[Course]:
    """Show a search on one of the evaluator's bars, which shows no others meanwhile."""
    task = evaluator.task
    if not isinstance(evaluator, MonteCarloEvaluator):  # a table: it answers at once
        yield Course(method, limit, f"{task.chips} chips", _unseen)
        return
    images = evaluator.problem.images("val")
    with evaluator.compute.progress("evaluation 1", limit or 1) as advance, joined(evaluator) as bars:
        yield Course(method, limit, f"{task.chips} chips x {images} images", advance, bars, len(task.times_s))


class Stages:
    """One bar over several pieces of work, each with a weight.

    Args:
        advance: moves the bar, of which `total` units are all weights together.
        bars: those of the evaluator.
    """

    UNITS = 100

    def __init__(self, advance: Advance, bars: Bars, total: float) -> None:
        self.advance, self.bars, self.total = advance, bars, total
        self.done, self.counted = 0.0, 0

    @contextmanager
    def piece(self, weight: float, bars: int = 1) -> Iterator[None]:
        """Do a piece of work, which opens so many bars one after another."""
        self.bars.expect(bars, lambda share: self._count(self.done + share * weight))
        yield
        self.done += weight
        self._count(self.done)

    def say(self, line: str) -> None:
        """Print a line, where the bar can."""
        if isinstance(self.advance, Told):
            self.advance.say(line)

    def _count(self, done: float) -> None:
        units = int(self.UNITS * done / self.total)
        if units > self.counted:
            self.advance(units - self.counted)
            self.counted = units


@contextmanager
def stages(evaluator: MonteCarloEvaluator, description: str, total: float) -> Iterator[Stages]:
    """Show pieces of work of `total` weight on one of the evaluator's bars, which shows no others meanwhile."""
    with evaluator.compute.progress(description, Stages.UNITS) as advance, joined(evaluator) as bars:
        yield Stages(advance, bars, total)


class Bars:
    """Bars that show nothing themselves, but move another one together."""

    def __init__(self) -> None:
        self.expect(1, lambda share: None)

    def expect(self, bars: int, move: Callable[[float], None]) -> None:
        """Expect so many bars, one after another, and report the finished share of them."""
        self.expected, self.move, self.ended = bars, move, 0

    @contextmanager
    def open(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Open one."""
        del description
        counted = done

        def advance(steps: int = 1) -> None:
            nonlocal counted
            counted += steps
            self.move(min(1.0, (self.ended + counted / max(total, 1)) / self.expected))

        yield advance
        self.ended += 1


@contextmanager
def joined(evaluator: MonteCarloEvaluator) -> Iterator[Bars]:
    """Give the evaluator bars that move another one."""
    before, bars = evaluator.compute, Bars()
    evaluator.compute = replace(before, progress=bars.open)
    try:
        yield bars
    finally:
        evaluator.compute = before
