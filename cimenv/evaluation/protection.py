"""Which output channels of a layer deserve to be kept digital: from the most to the least sensitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.global_state import own_torch_state
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.layers import MappedLayer, ProgrammedWeight, layer_forward, layer_input, program_weight, programmed
from cimenv.crossbar.mapping import MappedNetwork, site_module
from cimenv.crossbar.modes import evaluating
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
    found = {}
    for site in network.sites:
        config = network.config.at(site.name).model_copy(update={"analog": False})
        with torch.no_grad():
            weight = site_module(network.model, site).weight
            found[site.name] = program_weight(weight, config, torch_generator("protection", chip, site.name), t_s=t_s)
    return found  # type: ignore[return-value]


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
        calls: list[tuple[str, MappedLayer, Tensor, Tensor]] = []
        logits = _recorded(network, block, calls)
        labels = torch.multinomial(logits.detach().softmax(-1), 1, generator=draws).squeeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        gradients = torch.autograd.grad(loss, [y for *_, y in calls])
        for (name, layer, x, y), gradient in zip(calls, gradients, strict=True):
            channel = -1 if isinstance(layer, nn.Linear) else 1
            with torch.no_grad():
                varied = layer_forward(layer, x.square(), variances[name])
                if layer.bias is not None:
                    shape = [1] * y.dim()
                    shape[channel] = -1
                    varied = varied - layer.bias.reshape(shape)
                risen = gradient.square() * varied
                scores[name] += risen.movedim(channel, 0).flatten(1).sum(1)
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
    with torch.inference_mode(), programmed(network.model, weights) as model:
        parts = zip(images.split(BLOCK), labels.split(BLOCK), strict=True)
        return sum(float(F.cross_entropy(model(x), y, reduction="sum")) for x, y in parts)


def _recorded(network: MappedNetwork, images: Tensor, calls: list[tuple[str, MappedLayer, Tensor, Tensor]]) -> Tensor:
    """Run the network and append every call of a site: its name, layer, input and output."""
    hooks = []
    try:
        for site in network.sites:

            def record(
                module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], y: Tensor, name: str = site.name
            ) -> Tensor:
                assert isinstance(module, MappedLayer)
                calls.append((name, module, layer_input(args, named).detach().clone(), y))
                return y.clone()  # an activation in place must not change what is differentiated

            hooks.append(site_module(network.model, site).register_forward_hook(record, with_kwargs=True))
        with torch.enable_grad():
            logits: Tensor = network.model(images.clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    return logits
