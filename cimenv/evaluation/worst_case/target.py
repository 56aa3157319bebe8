"""What is attacked: a mapped network with its blocks, on one set of images, as a function of the deviation.

A deviation is relative: d = dW / S per site, S = max|W| of the layer, so that |dW| <= th_g * S is the box |d| <= th_g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from cimenv.compensation.bank import CompensationBank, site_weights
from cimenv.compensation.options import BlockOption, Placement
from cimenv.core.errors import MappingError
from cimenv.crossbar.layers import ProgrammedWeight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.evaluation.labels import count_correct
from cimenv.evaluation.segments import Product, SegmentedNetwork
from cimenv.evaluation.workers import IMAGE_BLOCK, workers
from cimenv.evaluation.worst_case.losses import LOSSES, LossName

T = TypeVar("T")
Deviation = dict[str, Tensor]


@dataclass(frozen=True)
class Gradient:
    """One pass over images: how many are still classified correctly, the summed loss, and its gradient by site."""

    correct: int
    loss: float
    by_site: Deviation


@dataclass(frozen=True)
class AttackTarget:
    """A network whose mapped weights may deviate; biases, normalisation and blocks stay exact.

    Attributes:
        network: the mapped backbone in evaluation mode; it is never changed.
        images: `[n, c, h, w]`, normalised.
        labels: `[n]`.
        bank: blocks, with `placement`; gradients flow through them. None: no blocks.
        placement: one option per site.
        threads: worker threads of one torch thread each; results do not depend on their number.

    Raises:
        MappingError: a mapped layer is all zeros, so that its bound th_g * S would be zero.
    """

    network: MappedNetwork
    images: Tensor
    labels: Tensor
    bank: CompensationBank | None = None
    placement: Placement = ()
    threads: int = 1

    def __post_init__(self) -> None:
        for name, scale in self.scales.items():
            if not scale > 0:
                raise MappingError(
                    f"Layer {name} is all zeros, so that a deviation relative to its largest weight is not defined; "
                    "train it or take it off the crossbar."
                )

    @cached_property
    def nominal(self) -> Mapping[str, Tensor]:
        """Return the trained weight of every site."""
        return self.network.weights()

    @cached_property
    def scales(self) -> Mapping[str, float]:
        """Return S = max|W| of every site."""
        return {name: float(weight.abs().amax()) for name, weight in self.nominal.items()}

    @property
    def blocks(self) -> int:
        """Return the number of image blocks, the unit of a batch."""
        return -(-len(self.labels) // IMAGE_BLOCK)

    def images_in(self, blocks: Sequence[int]) -> int:
        """Return how many images some blocks hold."""
        return sum(min(IMAGE_BLOCK, len(self.labels) - IMAGE_BLOCK * block) for block in blocks)

    def zero(self) -> Deviation:
        """Return no deviation."""
        return {name: torch.zeros_like(weight) for name, weight in self.nominal.items()}

    def first(self, images: int) -> AttackTarget:
        """Return the target restricted to its first images."""
        return replace(self, images=self.images[:images], labels=self.labels[:images])

    def accuracy(self, deviation: Mapping[str, Tensor]) -> float:
        """Return the accuracy at one deviation."""
        return self.correct(deviation) / len(self.labels)

    def correct(self, deviation: Mapping[str, Tensor]) -> int:
        """Return how many images are classified correctly at one deviation."""

        def count(images: Tensor, labels: Tensor) -> int:
            with torch.inference_mode():
                return int(count_correct(self._logits(weights, images), labels))

        with torch.no_grad():
            weights = self._weights(deviation)
        return sum(self._each(count, range(self.blocks)))

    def gradient(
        self, deviation: Mapping[str, Tensor], loss: LossName, blocks: Sequence[int] | None = None
    ) -> Gradient:
        """Return loss and gradient with respect to d, summed over the images of some blocks (default all)."""
        leaves = {name: value.detach().requires_grad_() for name, value in deviation.items()}
        variables = list(leaves.values())

        def one(images: Tensor, labels: Tensor) -> tuple[int, float, tuple[Tensor, ...]]:
            logits = self._logits(weights, images)
            total = LOSSES[loss](logits, labels).sum()
            parts = torch.autograd.grad(total, variables, retain_graph=True, materialize_grads=True)
            return int(count_correct(logits, labels)), total.item(), parts

        weights = self._weights(leaves)
        of_blocks = list(self._each(one, blocks if blocks is not None else range(self.blocks)))
        sums = [torch.stack(parts).sum(0) for parts in zip(*(grads for _, _, grads in of_blocks), strict=True)]
        correct, value = sum(c for c, _, _ in of_blocks), sum(v for _, v, _ in of_blocks)
        return Gradient(correct, value, dict(zip(leaves, sums, strict=True)))

    def site_shares(self, deviation: Mapping[str, Tensor]) -> list[float]:
        """Return each site's share of the damage: accuracy lost to its deviation alone, over the sum of all sites."""
        clean, zero = self.accuracy(self.zero()), self.zero()
        lost = [max(0.0, clean - self.accuracy({**zero, name: deviation[name]})) for name in deviation]
        total = sum(lost)
        return [value / total if total > 0 else 0.0 for value in lost]

    def _weights(self, deviation: Mapping[str, Tensor]) -> Mapping[str, ProgrammedWeight]:
        weights = {name: self.nominal[name] + self.scales[name] * deviation[name] for name in self.nominal}
        if self.bank is None:
            return weights
        return site_weights(self.bank, self.placement, self.nominal, weights)

    def _logits(self, weights: Mapping[str, ProgrammedWeight], images: Tensor) -> Tensor:
        """Run the network with other weights at its sites; the network itself is not touched."""

        def site(call: int, number: int, x: Tensor, product: Product) -> Tensor:
            del call
            y = product(weights[self._segments.sites[number].name], None)
            return y if self.bank is None else self.bank.compensate(number, self._blocks[number], x, y)

        return self._segments.forward(images, site, weights)

    @cached_property
    def _segments(self) -> SegmentedNetwork:
        return SegmentedNetwork(self.network.model, self.network.sites, origins=self.network.origins)

    @cached_property
    def _blocks(self) -> Sequence[BlockOption | None]:
        return [] if self.bank is None else self.bank.options.blocks(self.placement)

    def _each(self, call: Callable[[Tensor, Tensor], T], blocks: Sequence[int]) -> Iterator[T]:
        parts = [slice(block * IMAGE_BLOCK, (block + 1) * IMAGE_BLOCK) for block in blocks]
        with workers(self.threads if len(parts) > 1 else 1) as each:
            yield from each(call, [self.images[part] for part in parts], [self.labels[part] for part in parts])
