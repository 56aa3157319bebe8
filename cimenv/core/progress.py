"""A bar with a rate and an estimate for every wait over two seconds; in a log, one line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

SHOW_AFTER_S = 2.0
AGAIN_AFTER_S = 600.0  # a sign of life in a log


class Advance(Protocol):
    """A function that reports more finished units to a bar."""

    def __call__(self, steps: int = 1) -> None:
        """Count `steps` more."""


@runtime_checkable
class Told(Advance, Protocol):
    """A bar that takes more than a count, as those of `bar` do."""

    def describe(self, description: str, total: int) -> None:
        """Show other words and another number of units."""

    def say(self, line: str, instead: bool = False) -> None:
        """Print a line above the bar, at once; `instead`: in a log it stands for the bar's own."""


class Progress(Protocol):
    """Opens a bar: `with progress("training", total) as advance: advance()`."""

    def __call__(self, description: str, total: int, done: int = 0) -> AbstractContextManager[Advance]:
        """Open a bar of `total` units, `done` of which an earlier run did: they count as done, not in the rate."""


@contextmanager
def silent(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show nothing."""

    def advance(steps: int = 1) -> None:
        del steps

    yield advance


@contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Told]:
    """Show a bar on standard error once the work has lasted two seconds.

    On a terminal it is a moving bar; in a log it is one line, and one more every ten minutes.
    """
    kind = _TerminalBar if sys.stderr.isatty() else _LogLines
    shown = kind(description, total, done)
    try:
        yield shown
    finally:
        shown.close()


def duration(seconds: float) -> str:
    """Return a time for readers: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _LogLines:
    def __init__(self, description: str, total: int, done: int) -> None:
        self.description, self.total, self.before, self.done = description, total, done, done
        self.start = time.monotonic()
        self.next = self.start + SHOW_AFTER_S

    def __call__(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now >= self.next:
            rate = (self.done - self.before) / (now - self.start)
            left = (self.total - self.done) / max(rate, 1e-9)
            line = f"{self.description}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
            self.next = now + AGAIN_AFTER_S

    def describe(self, description: str, total: int) -> None:
        self.description, self.total = description, total

    def say(self, line: str, instead: bool = False) -> None:
        print(line, file=sys.stderr, flush=True)
        if instead:
            self.next = time.monotonic() + AGAIN_AFTER_S

    def close(self) -> None:
        pass


class _TerminalBar:
    def __init__(self, description: str, total: int, done: int) -> None:
        from rich import progress as shown
        from rich.console import Console

        self.start = time.monotonic()
        self.bar = shown.Progress(
            shown.TextColumn("{task.description}", markup=False),
            shown.BarColumn(),
            shown.MofNCompleteColumn(),
            shown.TextColumn("{task.fields[rate]:.1f}/s"),
            shown.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(description, total=total, completed=done, rate=0.0)
        self.before, self.done = done, done
        self.open = False

    def __call__(self, steps: int = 1) -> None:
        self.done += steps
        elapsed = time.monotonic() - self.start
        self.bar.update(self.task, advance=steps, rate=(self.done - self.before) / max(elapsed, 1e-9))
        if not self.open and elapsed > SHOW_AFTER_S:
            self.bar.start()
            self.open = True

    def describe(self, description: str, total: int) -> None:
        self.bar.update(self.task, description=description, total=total)

    def say(self, line: str, instead: bool = False) -> None:
        del instead
        self.bar.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        if self.open:
            self.bar.stop()
