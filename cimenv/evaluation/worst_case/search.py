"""The state of a search for the worst deviation: its box, the worst found so far, and how that came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cimenv.core.progress import Advance
from cimenv.evaluation.worst_case.target import AttackTarget, Deviation


@dataclass(frozen=True)
class Point:
    """One point of the attack-strength curve.

    Attributes:
        member: the attack.
        start: number of its start (restart).
        step: steps taken from there.
        passes: passes over all images that the whole search had made (forward, or forward and backward).
        accuracy: at this deviation.
        worst: the smallest accuracy of the whole search so far.
    """

    member: str
    start: int
    step: int
    passes: float
    accuracy: float
    worst: float


@dataclass
class Search:
    """What the members of an ensemble share while they look for the worst deviation in |d| <= bound.

    Attributes:
        target: what is attacked.
        bound: th_g.
        generator: draws random starts.
        advance: moves a bar by passes over the images.
        deviation: the worst so far.
        accuracy: at `deviation`.
        member: who found it.
        members: the smallest accuracy of every member.
        worst_of: the deviation of that accuracy, by member.
        curve: all points in order.
    """

    target: AttackTarget
    bound: float
    generator: torch.Generator
    advance: Advance
    deviation: Deviation = field(default_factory=dict)
    accuracy: float = 2.0
    member: str = ""
    members: dict[str, float] = field(default_factory=dict)
    worst_of: dict[str, Deviation] = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    passes: float = 0.0

    def visit(self, member: str, start: int, step: int, deviation: Mapping[str, Tensor], correct: int) -> float:
        """Take note of a deviation inside the box and of how many images it leaves correct; return the accuracy."""
        assert all(bool(value.isfinite().all()) for value in deviation.values()), f"{member} left the numbers"
        accuracy = correct / len(self.target.labels)
        self.passes += 1
        self.advance(1)
        if accuracy < self.members.get(member, 2.0):
            self.members[member] = accuracy
            self.worst_of[member] = {name: value.detach().clone() for name, value in deviation.items()}
        if accuracy < self.accuracy:
            self.accuracy, self.member, self.deviation = accuracy, member, self.worst_of[member]
        self.curve.append(Point(member, start, step, self.passes, accuracy, self.accuracy))
        return accuracy

    def clamped(self, deviation: Mapping[str, Tensor]) -> Deviation:
        """Return the nearest deviation in the box."""
        return {name: value.clamp(-self.bound, self.bound) for name, value in deviation.items()}

    def random(self) -> Deviation:
        """Return a random chip: Gaussian with th_g / 2, clamped to the box."""
        drawn = {
            name: torch.randn(value.shape, generator=self.generator) * (self.bound / 2)
            for name, value in self.target.zero().items()
        }
        return self.clamped(drawn)

    def corner(self) -> Deviation:
        """Return a random corner of the box: every weight off by +-th_g * S."""
        return {
            name: (torch.randint(0, 2, value.shape, generator=self.generator) * 2 - 1) * self.bound
            for name, value in self.target.zero().items()
        }
