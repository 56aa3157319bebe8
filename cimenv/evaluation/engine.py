"""The Monte-Carlo engine: chips x images x placements, depth first, sharing prefixes.

One code path serves a single placement and an enumeration: placements form a tree over site calls, and every edge of
the tree is computed once per chip and block of images. Blocks of images are sized for the processor's cache and
spread over threads of one torch thread each, so results do not depend on the number of threads.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, site_weight
from cimenv.compensation.options import BlockOption, Placement
from cimenv.core.errors import MappingError
from cimenv.core.precision import Precision, arithmetic
from cimenv.core.progress import Progress, silent
from cimenv.crossbar.batchnorm import batch_norms
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight, layer_forward
from cimenv.crossbar.mapping import site_module
from cimenv.evaluation.labels import count_correct
from cimenv.evaluation.memory import LIVE, Room, room, tensor_bytes
from cimenv.evaluation.prefix import Keeper, PrefixCache, Sums
from cimenv.evaluation.segments import SegmentedNetwork, State
from cimenv.evaluation.workers import image_block, workers

T = TypeVar("T")
CHIP_GROUP = 32  # chips whose weights are held at a time


@dataclass(frozen=True)
class Tally:
    """What the engine counts.

    Attributes:
        correct: correctly classified images, `[placements, chips]`.
        squares: `[placements, sites, chips, 2]`: ||Y' - Y||_F^2 and ||Y'||_F^2 over all images and calls.
        clean_squares: `[sites]`: ||Y||_F^2 of the clean network.
        images: images per chip.
    """

    correct: npt.NDArray[np.int64]
    squares: npt.NDArray[np.float64]
    clean_squares: npt.NDArray[np.float64]
    images: int


ChipModules = Callable[[Mapping[str, ProgrammedWeight], Placement], Mapping[str, nn.Module]]
Counts = npt.NDArray[np.int64]
Sums64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Block:
    """One block of images, with the clean output of every site call."""

    number: int
    images: Tensor
    labels: Tensor
    called: list[int]
    clean: list[Tensor]


@dataclass(frozen=True)
class _Chip:
    source: Chips
    number: int
    weights: dict[str, ProgrammedWeight]
    modules: dict[Placement, Mapping[str, nn.Module]]  # calibrated ones; empty: the network's own


class Engine:
    """Evaluates placements of one network on its chips.

    Args:
        network: the clean network, cut at its sites.
        chips: noisy weights.
        bank: the blocks.
        images: inputs, `[n, c, h, w]`, normalised.
        labels: `[n]`.
        threads: worker threads; each runs torch with one thread.
        device: where to compute.
        precision: of convolutions and matrix products.
        cache: activations kept between two runs of a single placement; None keeps nothing.
        memory_limit: bytes that a run may hold at a time, besides images; None: no limit. Numbers do not depend on it.
        chip_modules: from a chip's weights and a placement, modules that replace the network's own (calibrated batch
            norms); placements then share no prefix.
    """

    def __init__(
        self,
        network: SegmentedNetwork,
        chips: Chips,
        bank: CompensationBank,
        images: Tensor,
        labels: Tensor,
        *,
        threads: int = 1,
        device: str = "cpu",
        precision: Precision = "float32",
        cache: PrefixCache | None = None,
        memory_limit: int | None = None,
        chip_modules: ChipModules | None = None,
    ) -> None:
        self.device = torch.device(device)
        if self.device.type != "cpu":  # copies, so that the user's network stays where it is
            network = SegmentedNetwork(copy.deepcopy(network.model).to(self.device), network.sites)
            bank = copy.deepcopy(bank).to(self.device)
        self.network, self.chips, self.bank, self.threads, self.cache = network, chips, bank, threads, cache
        self.precision, self.layout = precision, chips.network.layout
        block = image_block(self.layout)
        images = images.to(self.device, memory_format=self.layout)
        parts = [tensor.split(block) for tensor in (images, labels.to(self.device))]
        self.blocks = range(len(parts[0])), *parts
        self.images = len(labels)
        self.layers = [site_module(network.model, site) for site in network.sites]
        self.chip_modules, self.memory_limit = chip_modules, memory_limit

    def run(
        self,
        placements: Sequence[Placement],
        chips: Sequence[int],
        *,
        t_s: float = 0.0,
        progress: Progress = silent,
    ) -> Tally:
        """Evaluate distinct placements, in any order, on the chips with these numbers, `t_s` after programming.

        Raises:
            ConfigError: the memory limit is below what one chip needs.
        """
        source = self.chips.at(t_s)
        held = self._room(len(placements), len(chips))
        order = sorted(range(len(placements)), key=lambda p: placements[p])
        tree = [placements[p] for p in order]
        correct = np.zeros((len(tree), len(chips)), dtype=np.int64)
        squares = np.zeros((len(tree), len(self.layers), len(chips), 2))
        clean = np.zeros(len(self.layers))
        plain = not self.network.opaque and self.chip_modules is None
        cache = self.cache if len(tree) == 1 and plain else None
        keeper = Keeper(cache, tree[0], self.network.calls, self.blocks[0], chips, t_s) if cache else None
        with (
            progress("evaluating chips", len(self.blocks[0]) * len(chips)) as advance,
            workers(held.threads) as each,
        ):
            for start in range(0, len(chips), held.chips):
                group = [self._chip(source, chip, tree, keeper) for chip in chips[start : start + held.chips]]
                span = slice(start, start + len(group))
                for counted, summed, clean_sums in each(partial(self._evaluate, tree, group, keeper), *self.blocks):
                    correct[:, span] += counted
                    squares[:, :, span] += summed
                    clean += clean_sums if start == 0 else 0.0
                    advance(len(group))
        inverse = np.argsort(order)
        return Tally(correct[inverse], squares[inverse], clean, self.images)

    def clean_correct(self) -> int:
        """Return how many images the clean network classifies correctly."""

        def count(_number: int, images: Tensor, labels: Tensor) -> int:
            with torch.inference_mode(), self._arithmetic():
                return count_correct(self.network.forward(images, self._clean_site), labels)

        with workers(self.threads) as each:
            return sum(each(count, *self.blocks))

    def _room(self, placements: int, chips: int) -> Room:
        """Return how many chips and threads the memory limit allows."""
        if self.memory_limit is None:
            return Room(CHIP_GROUP, self.threads)
        chip, largest, block, norms = self._sizes
        counts = 8 * placements * (1 + 2 * len(self.layers))  # of one chip, see `Tally`
        calibrated = norms * placements if self.chip_modules else 0
        digital = max(sum(o.kind == "digital" for o in here) for here in self.bank.options.per_site)
        return room(
            self.memory_limit,
            chip=chip + calibrated,
            largest=largest,
            walk=int((LIVE + digital) * block) + counts * CHIP_GROUP,
            threads=self.threads,
            chips=CHIP_GROUP,
            always=counts * chips,
            kept=self.cache.limit_bytes if self.cache else 0,
        )

    @cached_property
    def _sizes(self) -> tuple[int, int, int, int]:
        """Return the bytes of a chip, of its largest layer, of all site outputs for a block, of the batch norms."""
        _, images, labels = self.blocks
        with torch.inference_mode(), self._arithmetic():
            one = self._clean_block(0, images[0][:1], labels[0][:1], None)
        layers = [tensor_bytes(weight) for weight in self.chips.all_weights(0).values()]
        norms = [dict(module.state_dict()) for module in batch_norms(self.network.model).values()]
        return sum(layers), max(layers), tensor_bytes(one.clean) * len(labels[0]), tensor_bytes(norms)

    def _arithmetic(self) -> AbstractContextManager[None]:
        return arithmetic(self.precision, self.device.type)

    def _chip(self, source: Chips, number: int, tree: list[Placement], keeper: Keeper | None) -> _Chip:
        weights = self._weights(source, number, keeper)
        modules: dict[Placement, Mapping[str, nn.Module]] = {}
        if self.chip_modules:
            for placement in tree:
                made = self.chip_modules(source.all_weights(number), placement)  # read noise starts anew for each
                modules[placement] = {name: module.to(self.device) for name, module in made.items()}
        return _Chip(source, number, weights, modules)

    def _weights(self, source: Chips, number: int, keeper: Keeper | None) -> dict[str, ProgrammedWeight]:
        key = ("weights", number, source.t_s)
        if keeper and (kept := keeper.cache.get(key)):
            return kept[0]
        weights = {name: self._placed(weight) for name, weight in source.all_weights(number).items()}
        if keeper and not any(isinstance(weight, AnalogWeight) for weight in weights.values()):
            keeper.keep(key, weights, [], keeper.chips)
        return weights

    def _placed(self, weight: ProgrammedWeight) -> ProgrammedWeight:
        """Return a weight on the engine's device, and in the layout of its images."""
        if isinstance(weight, AnalogWeight) or weight.dim() != 4:
            return weight.to(self.device)
        return weight.to(self.device, memory_format=self.layout)

    def _clean_site(self, call: int, site: int, x: Tensor) -> Tensor:
        del call
        return layer_forward(self.layers[site], x, self.layers[site].weight)

    def _evaluate(
        self,
        tree: list[Placement],
        chips: list[_Chip],
        keeper: Keeper | None,
        number: int,
        images: Tensor,
        labels: Tensor,
    ) -> tuple[Counts, Sums64, Sums64]:
        with torch.inference_mode(), self._arithmetic():
            block = self._clean_block(number, images, labels, keeper)
            clean = np.zeros(len(self.layers))
            for site, output in zip(block.called, block.clean, strict=True):
                clean[site] += _square(output)
            correct = np.zeros((len(tree), len(chips)), dtype=np.int64)
            squares = np.zeros((len(tree), len(clean), len(chips), 2))
            shared = [slice(0, len(tree))] if not self.chip_modules else [slice(p, p + 1) for p in range(len(tree))]
            for k, chip in enumerate(chips):
                for part in shared:
                    _Walk(self, block, chip, tree[part], keeper, correct[part, k], squares[part, :, k]).run()
            return correct, squares, clean

    def _clean_block(self, number: int, images: Tensor, labels: Tensor, keeper: Keeper | None) -> _Block:
        if keeper and (kept := keeper.cache.get(("clean", number))):
            return _Block(number, images, labels, list(self.network.calls), list(kept[0].values()))
        block = _Block(number, images, labels, [], [])

        def site(call: int, site: int, x: Tensor) -> Tensor:
            block.called.append(site)
            output = self._clean_site(call, site, x)
            block.clean.append(output.clone() if self.network.opaque else output)  # it may be changed in place
            return output

        self.network.forward(images, site)
        missing = set(range(len(self.layers))) - set(block.called)
        if missing:
            raise MappingError(
                f"Layer {self.network.sites[min(missing)].name} was mapped, but the network bypasses it when it runs "
                "(a fused path of torch); use layers whose forward is called."
            )
        if keeper:
            keeper.keep(("clean", number), dict(enumerate(block.clean)), [], keeper.blocks)
        return block


class _Walk:
    """The depth-first walk over a tree of placements, for one chip and one block of images.

    Fills `correct` `[placements]` and `squares` `[placements, sites, 2]`.
    """

    def __init__(
        self,
        engine: Engine,
        block: _Block,
        chip: _Chip,
        tree: list[Placement],
        keeper: Keeper | None,
        correct: Counts,
        squares: Sums64,
    ) -> None:
        self.engine, self.block, self.chip, self.tree, self.keeper = engine, block, chip, tree, keeper
        self.network, self.options = engine.network, engine.bank.options
        self.correct, self.squares = correct, squares
        self.modules = chip.modules.get(tree[0], {})

    def run(self) -> None:
        """Walk the whole tree."""
        if self.network.opaque:
            for p in range(len(self.tree)):
                self._opaque(p)
            return
        found = self.keeper.latest(self.chip.number, self.block.number) if self.keeper else None
        call, state, sums = found or (0, self.network.start(self.block.images, self.modules), [])
        self._descend(call, state, sums, 0, len(self.tree))

    def _descend(self, call: int, state: State, sums: Sums, low: int, high: int) -> None:
        """Walk the placements `low..high`, which agree on every site called before `call`."""
        if call == len(self.network.calls):
            self._leaf(self.network.logits(state), sums, low)
            return
        site = self.network.calls[call]
        x = self.network.site_input(call, state)
        raw: dict[BlockOption | None, Tensor] = {}
        while low < high:
            option = self.tree[low][site]
            end = low + 1
            while end < high and self.tree[end][site] == option:
                end += 1
            y = self._output(call, site, x, self.options.block(site, option), raw)
            after = self.network.advance(call, state, y, self.modules)
            errors = [*sums, self._errors(call, y)]
            if self.keeper:
                self.keeper.keep_state(self.chip.number, self.block.number, call + 1, after, errors)
            self._descend(call + 1, after, errors, low, end)
            low = end

    def _output(
        self, call: int, site: int, x: Tensor, option: BlockOption | None, raw: dict[BlockOption | None, Tensor]
    ) -> Tensor:
        """Return a site's output after its block; `raw` keeps the layer's own output for its other options."""
        variant = option if option is not None and option.kind == "digital" else None
        if variant not in raw:
            layer = self.engine.layers[site]
            name = self.network.sites[site].name
            weight = site_weight(variant, layer.weight, self.chip.weights[name], self.engine.bank.order(site))
            noise = None
            if isinstance(weight, AnalogWeight):  # the same noise for every placement
                noise = self.chip.source.read_generator(name, self.chip.number, self.block.number, call)
            raw[variant] = layer_forward(layer, x, weight, noise)
        return self.engine.bank.compensate(site, option, x, raw[variant])

    def _errors(self, call: int, y: Tensor) -> tuple[float, float]:
        return _square(y - self.block.clean[call]), _square(y)

    def _leaf(self, logits: Tensor, sums: Sums, placement: int) -> None:
        self.correct[placement] = count_correct(logits, self.block.labels)
        for site, values in zip(self.block.called, sums, strict=True):
            self.squares[placement, site] += values

    def _opaque(self, placement: int) -> None:
        blocks = self.options.blocks(self.tree[placement])
        sums: Sums = []

        def site(call: int, number: int, x: Tensor) -> Tensor:
            y = self._output(call, number, x, blocks[number], {})
            sums.append(self._errors(call, y))
            return y

        self._leaf(self.network.forward(self.block.images, site, self.modules), sums, placement)


def _square(values: Tensor) -> float:
    """Return ||values||_F^2; channels-last images are flattened without a copy."""
    images = values.movedim(1, -1) if values.dim() == 4 and not values.is_contiguous() else values
    if images.dtype != torch.bfloat16:
        flat = images.reshape(-1)
        return float(torch.dot(flat, flat))
    norms = torch.linalg.vector_norm(images.flatten(1), dim=1)  # rounded to 8 bits, independently for every image
    return float(norms.double().square().sum())
