"""A bar with a rate and an estimate for every wait over two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

SHOW_AFTER_S = 2.0


class Advance(Protocol):
    """Tells a bar that more units are done."""

    def __call__(self, steps: int = 1) -> None:
        """Count `steps` more."""


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
def bar(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a bar on standard error once the work has lasted two seconds.

    On a terminal it is a moving bar; in a log it is one line every ten seconds.
    """
    kind = _TerminalBar if sys.stderr.isatty() else _LogLines
    shown = kind(description, total, done)
    try:
        yield shown.advance
    finally:
        shown.close()


class _LogLines:
    def __init__(self, description: str, total: int, done: int) -> None:
        self.description, self.total, self.before, self.done = description, total, done, done
        self.start = time.monotonic()
        self.next = self.start + SHOW_AFTER_S

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now >= self.next:
            rate = (self.done - self.before) / (now - self.start)
            left = (self.total - self.done) / max(rate, 1e-9)
            line = f"{self.description}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
            self.next = now + 10.0

    def close(self) -> None:
        pass


class _TerminalBar:
    def __init__(self, description: str, total: int, done: int) -> None:
        from rich import progress as shown
        from rich.console import Console

        self.start = time.monotonic()
        self.bar = shown.Progress(
            shown.TextColumn("{task.description}"),
            shown.BarColumn(),
            shown.MofNCompleteColumn(),
            shown.TextColumn("{task.fields[rate]:.1f}/s"),
            shown.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(description, total=total, completed=done, rate=0.0)
        self.done = 0
        self.open = False

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        elapsed = time.monotonic() - self.start
        self.bar.update(self.task, advance=steps, rate=self.done / max(elapsed, 1e-9))
        if not self.open and elapsed > SHOW_AFTER_S:
            self.bar.start()
            self.open = True

    def close(self) -> None:
        if self.open:
            self.bar.stop()
