"""Rewards: objects that state their range and their value on failure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from cimenv.core.errors import known_name
from cimenv.tasks.objective import SCORE_RANGE

REWARDS = ("dense", "terminal")


class Reward(Protocol):
    """What a step pays."""

    @property
    def range(self) -> tuple[float, float]:
        """Return the smallest and largest value, penalties for invalid actions not counted."""

    @property
    def on_failure(self) -> float:
        """Return the reward where an objective is not finite."""

    def __call__(self, before: float, after: float, ended: bool) -> float:
        """Return the reward for going from objective `before` to `after`."""


@dataclass(frozen=True)
class DenseReward:
    """The change of the objective: for gamma = 1 the return telescopes to J."""

    range: tuple[float, float] = SCORE_RANGE
    on_failure: float = SCORE_RANGE[0]

    def __call__(self, before: float, after: float, ended: bool) -> float:
        """Return `after - before`."""
        del ended
        value = after - before
        return value if math.isfinite(value) else self.on_failure


@dataclass(frozen=True)
class TerminalReward:
    """The objective at the episode's end, nothing before."""

    range: tuple[float, float] = SCORE_RANGE
    on_failure: float = SCORE_RANGE[0]

    def __call__(self, before: float, after: float, ended: bool) -> float:
        """Return `after` at the end, else 0."""
        del before
        if not ended:
            return 0.0
        return after if math.isfinite(after) else self.on_failure


def reward_named(name: str) -> Reward:
    """Return a reward by name.

    Raises:
        UnknownNameError: no such reward.
    """
    known_name("reward", name, REWARDS)
    return DenseReward() if name == "dense" else TerminalReward()
