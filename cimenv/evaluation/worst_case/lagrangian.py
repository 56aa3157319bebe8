"""The Lagrangian search: minimise max_l max|d_l| + c * sum F, with c such that the largest |d| meets the bound.

Source: Yan et al. (ICCAD 2022); the true logit is excluded from the maximum by -inf, and the result is clamped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cimenv.evaluation.worst_case.search import Search
from cimenv.evaluation.worst_case.target import Deviation

BATCHES = 4  # per pass over the images
NEAR = 0.05


@dataclass(frozen=True)
class Lagrangian:
    """The search for one bound.

    Attributes:
        rounds: values of c that are tried: times or over 10 until the bound is bracketed, then bisection.
        passes: passes over the images for every c.
        rate: Adam's rate in units of the bound.
    """

    rounds: int = 6
    passes: int = 4
    rate: float = 0.2

    def run(self, search: Search, member: str) -> None:
        """Search; the end point of every c, clamped to the box, is visited."""
        weight, low, high = 1.0, 0.0, 0.0
        for number in range(self.rounds):
            deviation = self._descend(search, weight)
            inside = search.clamped(deviation)
            search.visit(member, number, self.passes, inside, search.target.correct(inside))
            reached = max(float(value.abs().max()) for value in deviation.values())
            if abs(reached - search.bound) < NEAR * search.bound:
                return
            if reached > search.bound:
                high = weight
            else:
                low = weight
            weight = (low * high) ** 0.5 if low and high else weight / 10 if high else weight * 10

    def _descend(self, search: Search, weight: float) -> Deviation:
        target = search.target
        deviation = {name: value.requires_grad_() for name, value in target.zero().items()}
        optimizer = torch.optim.Adam(deviation.values(), lr=self.rate * search.bound)
        batches = [range(k, target.blocks, BATCHES) for k in range(min(BATCHES, target.blocks))]
        for _ in range(self.passes):
            for blocks in batches:
                part = target.gradient(deviation, "margin", blocks)
                images = target.images_in(blocks)
                optimizer.zero_grad()
                torch.stack([value.abs().max() for value in deviation.values()]).max().backward()
                for name, value in deviation.items():
                    added = part.by_site[name] * (weight / images)
                    value.grad = added if value.grad is None else value.grad + added
                optimizer.step()
            search.advance(1)
            search.passes += 1
        return {name: value.detach() for name, value in deviation.items()}
