"""Recipe `adversarial`: training at each batch's own worst deviation, found by one or more steps of weight-PGD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from cimenv.crossbar.mapping import MappedNetwork
from cimenv.evaluation.worst_case import LossName
from cimenv.training.adversary import descended, deviated, full_scales
from cimenv.training.recipe import ramped
from cimenv.training.validated import ValidatedRecipe

OVERSHOOT = 1.25  # the steps together, in units of the bound


class Adversarial(ValidatedRecipe):
    """Cross-entropy at W + dW, dW the end of sign steps from a random point of the box |dW| <= bound * S."""

    name: Literal["adversarial"] = "adversarial"
    inner_steps: int = Field(1, ge=1, le=1_000)
    inner_loss: LossName = "ce"
    ramp: float = Field(0.25, ge=0, le=1, description="share of training over which the bound rises from 0")
    train_bound: float | None = Field(
        None, gt=0, le=1, description="bound in training; None: the bound it is judged at"
    )

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy at the batch's worst deviation; see `Recipe.losses`."""
        bound = (self.train_bound or self.bound) * ramped(done, self.ramp)
        step, scales = OVERSHOOT * bound / self.inner_steps, full_scales(network)
        uniform = {s.name: torch.rand(s.weight_shape, generator=generator).to(x.device) for s in network.sites}
        start = {name: (drawn * 2 - 1) * bound * scales[name] for name, drawn in uniform.items()}
        worst = descended(network, x, y, start, self.inner_loss, step=step, steps=self.inner_steps, bound=bound)
        with network.programmed(deviated(network, worst)) as model:
            loss = F.cross_entropy(model(x), y)
        yield loss + self.penalty(network)
