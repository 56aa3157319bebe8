"""The Lagrangian search: minimise max_l max|d_l| + c * sum F, with c such that the largest |d| meets the bound.

Source: Yan et al. (ICCAD 2022), where Adam minimises the sum. Adam is free of scale, so that c would not matter; here a
gradient step on F is followed by the proximal step of the maximum, which is exact. The true logit is excluded from the
maximum in F by -inf, and the result is clamped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cimenv.evaluation.worst_case.search import Search
from cimenv.evaluation.worst_case.target import Deviation

BATCHES = 4  # per pass over the images
NEAR = 0.05


@dataclass(frozen=True)
class Lagrangian:
    """The search for one bound.

    c is in units in which the two terms balance at no deviation: 1 / ||gradient of F||_1.

    Attributes:
        rounds: values of c that are tried: times or over 10 until the bound is bracketed, then bisection.
        passes: passes over the images for every c.
        rate: size of a step in units of the bound.
    """

    rounds: int = 6
    passes: int = 4
    rate: float = 0.25

    def run(self, search: Search, member: str) -> None:
        """Search; the end point of every c, clamped to the box, is visited."""
        weight, low, high = 1.0, 0.0, 0.0
        for number in range(self.rounds):
            deviation = self.descended(search, weight)
            inside = search.clamped(deviation)
            search.visit(member, number, self.passes, inside, search.target.correct(inside))
            reached = largest(deviation)
            if abs(reached - search.bound) < NEAR * search.bound:
                return
            if reached > search.bound:
                high = weight
            else:
                low = weight
            weight = (low * high) ** 0.5 if low and high else weight / 10 if high else weight * 10

    def descended(self, search: Search, weight: float) -> Deviation:
        """Return the end of the descent for one c; not clamped."""
        target = search.target
        deviation = target.zero()
        count = sum(value.numel() for value in deviation.values())
        step = self.rate * search.bound * count  # the proximal step takes this much from all |d| together
        unit = 0.0
        batches = [range(k, target.blocks, BATCHES) for k in range(min(BATCHES, target.blocks))]
        for _ in range(self.passes):
            for blocks in batches:
                slopes = target.gradient(deviation, "margin", blocks).by_site
                if not all(bool(slope.isfinite().all()) for slope in slopes.values()):
                    return deviation  # far outside the box, where the network overflows
                images = target.images_in(blocks)
                unit = unit or sum(float(slope.abs().sum()) for slope in slopes.values()) / images
                scale = step * weight / max(unit * images, 1e-30)
                moved = {name: value - scale * slopes[name] for name, value in deviation.items()}
                deviation = shrunk(moved, step)
            search.advance(1)
            search.passes += 1
        return deviation


def largest(deviation: Mapping[str, Tensor]) -> float:
    """Return max|d| over all sites."""
    return float(torch.stack([value.abs().max() for value in deviation.values()]).max())


def shrunk(deviation: Mapping[str, Tensor], step: float) -> Deviation:
    """Return the proximal step of `step * max|d|`: all |d| are cut at the level where `step` is cut off in sum."""
    ordered = torch.cat([value.abs().flatten() for value in deviation.values()]).sort(descending=True).values.double()
    if float(ordered.sum()) <= step:
        return {name: torch.zeros_like(value) for name, value in deviation.items()}
    levels = (ordered.cumsum(0) - step) / torch.arange(1, len(ordered) + 1)
    level = float(levels[int((ordered > levels).sum()) - 1])
    return {name: value.clamp(-level, level) for name, value in deviation.items()}
