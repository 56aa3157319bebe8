"""The depth-first walk over a tree of placements, for one chip and one block of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, site_weight, site_weights
from cimenv.compensation.options import BlockOption, Placement
from cimenv.core.errors import MappingError
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.evaluation.metrics import Metric
from cimenv.evaluation.prefix import Keeper, Sums
from cimenv.evaluation.segments import Product, SegmentedNetwork, State


@dataclass(frozen=True)
class ImageBlock:
    """One block of images, with the clean output of every site call."""

    number: int
    images: Tensor
    labels: Tensor
    called: list[int]
    clean: list[Tensor]


@dataclass(frozen=True)
class HeldChip:
    """A chip whose weights are held."""

    source: Chips
    number: int
    weights: Mapping[str, ProgrammedWeight]
    modules: dict[Placement, Mapping[str, nn.Module]]  # calibrated ones; empty: the network's own


class Walk:
    """Walks a tree of placements, each edge once.

    Args:
        network: cut at its sites.
        bank: the blocks.
        block: images.
        chip: its weights.
        tree: placements, sorted.
        keeper: of states between runs.
        nominal: the sites' own weights, by name.
        metric: what one chip is worth.
    """

    def __init__(
        self,
        network: SegmentedNetwork,
        bank: CompensationBank,
        block: ImageBlock,
        chip: HeldChip,
        tree: list[Placement],
        keeper: Keeper | None,
        nominal: Mapping[str, Tensor],
        metric: Metric,
    ) -> None:
        self.nominal, self.metric = nominal, metric
        self.network, self.bank, self.options = network, bank, bank.options
        self.block, self.chip, self.tree, self.keeper = block, chip, tree, keeper
        self.modules = chip.modules.get(tree[0], {})
        self.sums: list[Tensor] = []
        self.squares: list[Tensor] = []

    def run(self) -> tuple[Tensor, Tensor]:
        """Walk the whole tree; return the metric's sums `[placements]` and squares `[placements, calls, 2]`."""
        if self.network.opaque:
            for placement in self.tree:
                self._opaque(placement)
        else:
            kept = self.keeper.latest(self.chip.number, self.block.number) if self.keeper else None
            call, state, sums = kept or (0, self.network.start(self.block.images, self.modules), [])
            self._descend(call, state, sums, 0, len(self.tree))
        return torch.stack(self.sums), torch.stack(self.squares)

    def _descend(self, call: int, state: State, sums: Sums, low: int, high: int) -> None:
        """Walk the placements `low..high`, which agree on every site called before `call`."""
        if call == len(self.network.calls):
            self._leaf(self.network.logits(state), sums)
            return
        site = self.network.calls[call]
        x = self.network.site_input(call, state)
        raw: dict[BlockOption | None, Tensor] = {}
        while low < high:
            option = self.tree[low][site]
            end = low + 1
            while end < high and self.tree[end][site] == option:
                end += 1
            y = self._output(call, site, x, self.network.product(call, x), self.options.block(site, option), raw)
            after = self.network.advance(call, state, y, self.modules)
            errors = [*sums, self._errors(call, y)]
            if self.keeper:
                self.keeper.keep_state(self.chip.number, self.block.number, call + 1, after, errors)
            self._descend(call + 1, after, errors, low, end)
            low = end

    def _output(
        self,
        call: int,
        site: int,
        x: Tensor,
        product: Product,
        option: BlockOption | None,
        raw: dict[BlockOption | None, Tensor],
    ) -> Tensor:
        """Return a site's output after its block; `raw` keeps the layer's own output for its other options."""
        variant = option if option is not None and option.block.on_weights else None
        if variant not in raw:
            name = self.network.sites[site].name
            weight = site_weight(variant, self.nominal[name], self.chip.weights[name], self.bank.order(site))
            noise = None
            if isinstance(weight, AnalogWeight):  # the same noise for every placement
                noise = self.chip.source.read_generator(name, self.chip.number, self.block.number, call)
            raw[variant] = product(weight, noise)
        return self.bank.compensate(site, option, x, raw[variant])

    def _errors(self, call: int, y: Tensor) -> Tensor:
        return torch.stack((square(y - self.block.clean[call]), square(y)))

    def _leaf(self, logits: Tensor, sums: Sums) -> None:
        self.sums.append(self.metric.update(logits, self.block.labels))
        self.squares.append(torch.stack(sums))

    def _opaque(self, placement: Placement) -> None:
        blocks = self.options.blocks(placement)
        sums: Sums = []

        def site(call: int, number: int, x: Tensor, product: Product) -> Tensor:
            if self.block.called[call : call + 1] != [number]:
                raise MappingError(
                    f"{type(self.network.model).__name__} calls its layers in another order on a chip than without "
                    "variation: its control flow depends on values, so that its sites cannot be compared."
                )
            y = self._output(call, number, x, product, blocks[number], {})
            sums.append(self._errors(call, y))
            return y

        weights = site_weights(self.bank, placement, self.nominal, self.chip.weights)
        self._leaf(self.network.forward(self.block.images, site, weights, self.modules), sums)


def square(values: Tensor) -> Tensor:
    """Return ||values||_F^2 in double precision; channels-last images are flattened without a copy."""
    images = values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values
    if images.dtype != torch.bfloat16:
        flat = images.reshape(-1)
        return torch.dot(flat, flat).double()
    # bfloat16 is rounded to 8 bits, independently for every image.
    return torch.linalg.vector_norm(images.flatten(1), dim=1).double().square().sum()
