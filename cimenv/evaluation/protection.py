"""Which output channels of a layer deserve to be kept digital: from the most to the least sensitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cimenv.core.global_state import own_torch_state
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.interception import SiteCall, observed
from cimenv.crossbar.layers import ProgrammedWeight, program_weight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.sites import matrix_of
from cimenv.data.splits import ImageSet

Sensitivity = Literal["second_derivative", "damage"]
Protection = Literal["weight_norm"] | Sensitivity  # by weight norm: see `site_weight`
NoisyWeights = Sequence[Mapping[str, Tensor]]  # noisy weights by site, exact products
BLOCK = 125
IMAGES = {"second_derivative": 1_000, "damage": 250}
CHIPS = {"second_derivative": 16, "damage": 4}


@own_torch_state()
def channel_scores(network: MappedNetwork, train: ImageSet, kind: Sensitivity, t_s: float = 0.0) -> dict[str, Tensor]:
    """Return how sensitive every output channel of every site is, `[out]` by site name.

    Args:
        network: the clean network.
        train: training images; the first ones are used.
        kind: what sensitivity is.
        t_s: seconds after programming.
    """
    images, chips = train.inputs(slice(IMAGES[kind])), [_noisy(network, k, t_s) for k in range(CHIPS[kind])]
    with evaluating(network.model):
        if kind == "second_derivative":
            return by_second_derivative(network, images, chips)
        return by_damage(network, images, train.labels[: IMAGES[kind]], chips)


def _noisy(network: MappedNetwork, chip: int, t_s: float) -> dict[str, Tensor]:
    """Return the weights of a chip whose products are exact, so that they can be compared with the nominal ones."""
    weights = {}
    for site in network.sites:
        config = network.config.at(site.name).model_copy(update={"analog": False})
        with torch.no_grad():
            weight = matrix_of(network.model, site)
            weights[site.name] = program_weight(weight, config, torch_generator("protection", chip, site.name), t_s=t_s)
    return weights  # type: ignore[return-value]


def by_second_derivative(network: MappedNetwork, images: Tensor, chips: NoisyWeights) -> dict[str, Tensor]:
    """Return `[out]` by site: expected rise of the cross-entropy from a channel's variation, to second order.

    An output y_i varies by var(y_i) = sum_j x_j^2 var(w_ij); the loss rises by half its second derivative times that.
    The derivative is taken as the squared gradient under labels that the network itself draws (Fisher), so one forward
    and one backward pass give all layers. After SWIM (arXiv 2202.08395), with the devices' own variance for max|W|^2.

    Args:
        network: the clean network.
        images: `[n, ...]`, normalised; their labels are not needed.
        chips: noisy weights of a few chips, `[out, ...]` by site: their mean square deviation is var(w).
    """
    variances = {
        name: torch.stack([(chip[name] - weight).square() for chip in chips]).mean(0)
        for name, weight in network.weights().items()
    }
    scores = {name: torch.zeros(len(weight)) for name, weight in network.weights().items()}
    draws = torch_generator("second-derivative")
    for block in images.split(BLOCK):
        calls: list[tuple[SiteCall, Tensor]] = []
        logits = _recorded(network, block, calls)
        labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=draws).squeeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, [y for _, y in calls])
        for (call, _), gradient in zip(calls, gradients, strict=True):
            with torch.no_grad():
                varied = call.operation.exact(call.x.detach().square(), variances[call.site], None)
                risen = gradient.square() * varied
                scores[call.site] += risen.movedim(call.operation.channels, 0).flatten(1).sum(1)
    return scores


def by_damage(network: MappedNetwork, images: Tensor, labels: Tensor, chips: NoisyWeights) -> dict[str, Tensor]:
    """Return `[out]` by site: the cross-entropy where this channel alone varies, summed over images, mean over chips.

    What it is without variation is the same for all channels. One forward pass a channel and chip.

    Args:
        network: the clean network.
        images: `[n, ...]`, normalised.
        labels: `[n]`.
        chips: noisy weights by site.
    """
    scores = {}
    for name, weight in network.weights().items():
        rises = torch.zeros(len(weight))
        for chip in chips:
            for channel in range(len(weight)):
                varied = weight.clone()
                varied[channel] = chip[name][channel]
                rises[channel] += _loss(network, {name: varied}, images, labels) / len(chips)
        scores[name] = rises
    return scores


def _loss(network: MappedNetwork, weights: Mapping[str, ProgrammedWeight], images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode(), network.programmed(weights) as model:
        parts = zip(images.split(BLOCK), labels.split(BLOCK), strict=True)
        return sum(float(F.cross_entropy(model(x), y, reduction="sum")) for x, y in parts)


def _recorded(network: MappedNetwork, images: Tensor, calls: list[tuple[SiteCall, Tensor]]) -> Tensor:
    """Run the network and append every product of a site, and its outputs."""

    def record(call: SiteCall) -> Tensor:
        kept = replace(call, product=replace(call.product, x=call.x.clone()))
        y = call.outputs()
        calls.append((kept, y))
        return y.clone()  # an activation in place must not change what is differentiated

    with torch.enable_grad(), observed(network.model, network.sites, record, network.origins) as model:
        logits: Tensor = model(images.clone().requires_grad_())
    return logits
