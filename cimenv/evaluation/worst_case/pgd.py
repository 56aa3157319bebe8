"""Projected gradient descent over weights: sign steps on the gradient of the whole set, clamped to the box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from cimenv.evaluation.worst_case.losses import LossName
from cimenv.evaluation.worst_case.search import Search
from cimenv.evaluation.worst_case.target import Deviation


@dataclass(frozen=True)
class Pgd:
    """One kind of weight-PGD.

    Attributes:
        loss: what is minimised.
        steps: gradient steps.
        step: first step in units of the bound; 1 / steps is the published choice.
        momentum: share of the last direction that is kept (gradients are scaled to mean magnitude 1 per site first).
        decay: whether the step falls to zero along a cosine.
    """

    loss: LossName
    steps: int
    step: float = 0.5
    momentum: float = 0.75
    decay: bool = True

    def run(self, search: Search, member: str, start: int, deviation: Deviation) -> None:
        """Descend from `deviation`; every iterate is visited."""
        velocity = search.target.zero()
        for step in range(self.steps):
            slope = search.target.gradient(deviation, self.loss)
            search.visit(member, start, step, deviation, slope.correct)
            share = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.decay else 1.0
            length = self.step * search.bound * share
            for name, gradient in slope.by_site.items():
                gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # a root or a norm at 0 gives no direction
                scaled = gradient / gradient.abs().mean().clamp_min(1e-30)
                velocity[name] = self.momentum * velocity[name] + scaled
            moved = {name: value - length * torch.sign(velocity[name]) for name, value in deviation.items()}
            deviation = search.clamped(moved)
        search.visit(member, start, self.steps, deviation, search.target.correct(deviation))


def published_margin(steps: int) -> Pgd:
    """Return the literature's attack: the margin, steps of th_g / steps from no deviation, no momentum."""
    return Pgd("margin", steps, step=1 / steps, momentum=0.0, decay=False)
