"""Recipe `sam`: sharpness-aware minimisation over the mapped weights (Foret et al., ICLR 2021, arXiv 2010.01412)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from cimenv.crossbar.mapping import MappedNetwork
from cimenv.training.adversary import deviated, gradient
from cimenv.training.validated import ValidatedRecipe


class Sam(ValidatedRecipe):
    """Cross-entropy at W + rho * g / ||g||_2, g the batch's gradient over all mapped weights together."""

    name: Literal["sam"] = "sam"
    rho: float = Field(0.1, gt=0, description="length of the step to the neighbour, in the weights' own unit")

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy at the sharpest neighbour; see `Recipe.losses`."""
        del done, generator
        zero = {site.name: torch.zeros(site.weight_shape) for site in network.sites}
        downhill = gradient(network, x, y, zero, "ce")  # of minus the cross-entropy
        norm = torch.stack([value.norm() for value in downhill.values()]).norm().clamp_min(1e-12)
        step = {name: -value * (self.rho / norm) for name, value in downhill.items()}
        with network.programmed(deviated(network, step)) as model:
            loss = F.cross_entropy(model(x), y)
        yield loss + self.penalty(network)
