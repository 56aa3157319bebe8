"""One batch's worst deviation: a few sign steps from a start, differentiated through the network in training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.sites import site_module
from cimenv.evaluation.worst_case import LOSSES, LossName


def full_scales(network: MappedNetwork) -> dict[str, Tensor]:
    """Return S = max|W| of every site, detached."""
    return {site.name: site_module(network.model, site).weight.detach().abs().amax() for site in network.sites}


def deviated(network: MappedNetwork, deviation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `W + dW` of every site; gradients reach W and dW."""
    return {site.name: site_module(network.model, site).weight + deviation[site.name] for site in network.sites}


def gradient(
    network: MappedNetwork, x: Tensor, y: Tensor, deviation: Mapping[str, Tensor], loss: LossName
) -> dict[str, Tensor]:
    """Return the gradient of the summed attack loss of one batch with respect to dW, by site."""
    leaves = {name: value.detach().requires_grad_() for name, value in deviation.items()}
    with network.programmed(deviated(network, leaves)) as model:
        total = LOSSES[loss](model(x), y).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, gradients, strict=True))


def descended(
    network: MappedNetwork,
    x: Tensor,
    y: Tensor,
    start: Mapping[str, Tensor],
    loss: LossName,
    *,
    step: float,
    steps: int,
    bound: float | None = None,
) -> dict[str, Tensor]:
    """Return dW after sign steps of `step * S` that lower the attack loss of one batch, from `start`.

    Args:
        network: the backbone in training.
        x: images `[n, c, h, w]`.
        y: labels `[n]`.
        start: dW by site.
        loss: what the adversary lowers.
        step: in units of S.
        steps: how many.
        bound: th_g: dW is clamped to +-th_g * S; None leaves it free.
    """
    deviation, scales = dict(start), full_scales(network)
    for _ in range(steps):
        for name, slope in gradient(network, x, y, deviation, loss).items():
            moved = deviation[name] - step * scales[name] * slope.sign()
            deviation[name] = moved if bound is None else moved.clamp(-bound * scales[name], bound * scales[name])
    return {name: value.detach() for name, value in deviation.items()}
