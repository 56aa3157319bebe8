"""Recipe `a_trice`: adversarial training on top of censored noise (A-TRICE, TCAD 2024, arXiv 2312.06137)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.sites import site_module
from cimenv.crossbar.variation import censored_moments
from cimenv.evaluation.worst_case import LossName
from cimenv.training.adversary import descended, deviated, full_scales
from cimenv.training.trice import Trice


class ATrice(Trice):
    """Two losses a batch: (A) `alpha` times the cross-entropy at an adversarial deviation, (B) at fresh censored noise.

    The adversary starts at the mean of the censored noise (as published) or at a sample of it, and takes `inner_steps`
    sign steps of `epsilon * S` that lower the margin (as published) or raise the cross-entropy. Both losses change the
    weights: their gradients are summed (`updates="joint"`), or each makes an update of its own (`"each"`).
    """

    name: Literal["a_trice"] = "a_trice"  # type: ignore[assignment]
    search: bool = Field(False, description="search sigma_t and the threshold as `trice` does")
    epsilon: float = Field(0.03, gt=0, le=1, description="adversary's step in units of max|W|")
    alpha: float = Field(0.5, gt=0, description="weight of the adversarial loss")
    inner_loss: LossName = "margin"
    inner_steps: int = Field(1, ge=1, le=1_000)
    start: Literal["mean", "sample"] = "mean"
    updates: Literal["joint", "each"] = "joint"

    @property
    def separate_updates(self) -> bool:
        """Return whether each of the two losses makes an update of its own."""
        return self.updates == "each"

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the adversarial loss, then the one at fresh noise; see `Recipe.losses`."""
        start, step = self._start(network, done, generator), self.epsilon * self.risen(done)
        worst = descended(network, x, y, start, self.inner_loss, step=step, steps=self.inner_steps)
        with network.programmed(deviated(network, worst)) as model:
            loss = F.cross_entropy(model(x), y)
        yield self.alpha * loss
        yield from super().losses(network, x, y, done, generator)

    def _start(self, network: MappedNetwork, done: float, generator: torch.Generator) -> dict[str, Tensor]:
        weights = {site.name: site_module(network.model, site).weight.detach() for site in network.sites}
        if self.start == "sample":
            noise = self.device(done)
            return {name: noise.program(weight, generator) - weight for name, weight in weights.items()}
        mean, scales = censored_moments(self.threshold)[0] * self.sigma * self.risen(done), full_scales(network)
        return {name: torch.full_like(weight, float(mean * scales[name])) for name, weight in weights.items()}
