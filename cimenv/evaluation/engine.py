"""The Monte-Carlo engine: chips x images x placements, depth first, sharing prefixes.

One code path serves a single placement and an enumeration: placements form a tree over site calls, and every edge of
the tree is computed once per chip and block of images. Blocks of images are sized for the processor's cache and
spread over threads of one torch thread each, so results do not depend on the number of threads. On a GPU, where small
kernels cost their launch, the walk of a large block is recorded once and launched again for every chip. Counts stay on
the device until a run ends.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import Placement
from cimenv.core.errors import MappingError
from cimenv.core.global_state import own_torch_state
from cimenv.core.precision import Precision, arithmetic
from cimenv.core.progress import Progress, silent
from cimenv.crossbar.batchnorm import batch_norms
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.sites import matrix_of
from cimenv.evaluation.memory import LIVE, Room, room, tensor_bytes
from cimenv.evaluation.metrics import Accuracy, Metric
from cimenv.evaluation.prefix import Keeper, PrefixCache
from cimenv.evaluation.recording import recorded
from cimenv.evaluation.segments import Product, SegmentedNetwork
from cimenv.evaluation.walk import HeldChip, ImageBlock, Walk, square
from cimenv.evaluation.workers import DEVICE_IMAGE_BLOCK, image_block, workers

ACCURACY = Accuracy()
CHIP_GROUP = 32  # chips whose weights are held at a time


@dataclass(frozen=True)
class Tally:
    """What the engine adds up over images.

    Attributes:
        sums: of the metric, such as correctly classified images, `[placements, chips]`.
        squares: `[placements, sites, chips, 2]`: ||Y' - Y||_F^2 and ||Y'||_F^2 over all images and calls.
        clean_squares: `[sites]`: ||Y||_F^2 of the clean network.
        images: images per chip.
    """

    sums: npt.NDArray[np.int64 | np.float64]
    squares: npt.NDArray[np.float64]
    clean_squares: npt.NDArray[np.float64]
    images: int


ChipModules = Callable[[Mapping[str, ProgrammedWeight], Placement], Mapping[str, nn.Module]]
Counts = tuple[Tensor, Tensor, Tensor]  # of a block: see `Tally`, in its order


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
        metric: what one chip is worth.
        cache: activations kept between two runs of a single placement; None keeps nothing.
        memory_limit: bytes that a run may hold at a time, besides images; None: no limit. Numbers do not depend on it
            but for rounding on a GPU.
        chip_modules: from a chip's weights and a placement, modules that replace the network's own (calibrated batch
            norms); placements then share no prefix.
        recording: record the walk of a block once and launch it again for every chip, where network and crossbar allow
            it; nothing but weights is then kept between runs. Default: on a GPU.
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
        metric: Metric = ACCURACY,
        cache: PrefixCache | None = None,
        memory_limit: int | None = None,
        chip_modules: ChipModules | None = None,
        recording: bool | None = None,
    ) -> None:
        self.device = torch.device(device)
        if self.device.type != "cpu":  # copies, so that the user's network stays where it is
            network = network.on(self.device)
            bank = copy.deepcopy(bank).to(self.device)
        self.network, self.chips, self.bank, self.threads, self.cache = network, chips, bank, threads, cache
        self.precision, self.metric, self.layout = precision, metric, chips.network.layout
        self.chip_modules, self.memory_limit = chip_modules, memory_limit
        self._called = torch.tensor(network.calls, device=self.device) if network.calls else None
        self._wanted = self.device.type == "cuda" if recording is None else recording
        self._images = images.to(self.device, memory_format=self.layout), labels.to(self.device)
        self.images = len(labels)

    @own_torch_state()
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
        sites = len(self.network.sites)
        sums = torch.zeros(len(chips), len(tree), dtype=self.metric.dtype, device=self.device)
        squares = torch.zeros(len(chips), len(tree), sites, 2, dtype=torch.float64, device=self.device)
        clean = torch.zeros(sites, dtype=torch.float64, device=self.device)
        cache = self.cache if len(tree) == 1 and self._plain and not self.recording else None
        keeper = Keeper(cache, tree[0], self.network.calls, self.blocks[0], chips, t_s) if cache else None
        with (
            progress("evaluating chips", len(self.blocks[0]) * len(chips)) as advance,
            workers(held.threads) as each,
        ):
            for start in range(0, len(chips), held.chips):
                numbers = chips[start : start + held.chips]
                group = [self._chip(source, number, tree, keeper) for number in numbers]
                span = slice(start, start + len(numbers))
                for counted, summed, clean_sums in each(partial(self._evaluate, tree, group, keeper), *self.blocks):
                    sums[span] += counted
                    squares[span] += summed
                    if start == 0:
                        clean += clean_sums
                    advance(len(numbers))
        inverse = np.argsort(order)
        totals, distances = sums.T.cpu().numpy(), squares.permute(1, 2, 0, 3).cpu().numpy()
        return Tally(totals[inverse], distances[inverse], clean.cpu().numpy(), self.images)

    @own_torch_state()
    def clean_sum(self) -> float:
        """Return the metric's sum over images of the clean network: how many it classifies correctly."""

        def count(_number: int, images: Tensor, labels: Tensor) -> float:
            with torch.inference_mode(), self._arithmetic():
                outputs = self.network.forward(images, self._clean_site, self.nominal)
                return float(self.metric.update(outputs, labels))

        with workers(self.threads) as each:
            return sum(each(count, *self.blocks))

    @property
    def _plain(self) -> bool:
        """Whether placements share prefixes."""
        return not self.network.opaque and self.chip_modules is None

    @cached_property
    def recording(self) -> bool:
        """Whether the walk of a block is recorded: wanted, and possible with this network and crossbar."""
        if not self._wanted or not self._plain:
            return False
        chip = HeldChip(self.chips, 0, self._programmed(self.chips, 0), {})
        if any(isinstance(weight, AnalogWeight) for weight in chip.weights.values()):
            return False
        with torch.inference_mode(), self._arithmetic():
            try:
                self._walk_recorded(self._one_image(), [chip], [(0,) * len(self.network.sites)])
            except (torch.OutOfMemoryError, RecursionError):
                raise
            except RuntimeError:  # an operation that cannot be recorded
                return False
        return True

    @cached_property
    def blocks(self) -> tuple[range, Sequence[Tensor], Sequence[Tensor]]:
        """Numbers, images and labels of the blocks: small ones for a processor's cache, large ones for a GPU."""
        block = image_block(self.layout)
        if self.device.type != "cpu":
            block = DEVICE_IMAGE_BLOCK
            if self.memory_limit is not None:
                block = max(1, min(block, self.memory_limit // (2 * self._walk_bytes)))
            block = math.ceil(self.images / math.ceil(self.images / block))
        images, labels = (tensor.split(block) for tensor in self._images)
        return range(len(images)), images, labels

    def _room(self, placements: int, chips: int) -> Room:
        """Return how many chips and threads the memory limit allows."""
        threads, most = (1, chips) if self.recording else (self.threads, CHIP_GROUP)
        if self.memory_limit is None:
            return Room(most, threads)
        chip, largest, norms = self._sizes
        counts = 8 * placements * (1 + 2 * len(self.network.sites))  # of one chip, see `Tally`
        calibrated = norms * placements if self.chip_modules else 0
        of_walks = 0 if self.recording else counts * CHIP_GROUP
        return room(
            self.memory_limit,
            chip=chip + calibrated + (counts if self.recording else 0),
            largest=largest,
            walk=self._walk_bytes * len(self.blocks[2][0]) + of_walks,
            threads=threads,
            chips=most,
            always=counts * chips,
            kept=self.cache.limit_bytes if self.cache else 0,
        )

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        """Return the bytes of a chip, of its largest layer, of the batch norms."""
        layers = [tensor_bytes(weight) for weight in self.chips.all_weights(0).values()]
        norms = [dict(module.state_dict()) for module in batch_norms(self.network.model).values()]
        return sum(layers), max(layers), tensor_bytes(norms)

    @cached_property
    def _walk_bytes(self) -> int:
        """Return the bytes that a walk needs for one image."""
        with torch.inference_mode(), self._arithmetic():
            outputs = tensor_bytes(self._one_image().clean)
        variants = max(sum(o.block.on_weights for o in here) for here in self.bank.options.per_site)
        return int((LIVE + variants) * outputs)

    def _one_image(self) -> ImageBlock:
        images, labels = self._images
        return self._clean_block(0, images[:1], labels[:1], None)

    def _arithmetic(self) -> AbstractContextManager[None]:
        return arithmetic(self.precision, self.device.type)

    def _chip(self, source: Chips, number: int, tree: list[Placement], keeper: Keeper | None) -> HeldChip:
        weights = self._weights(source, number, keeper)
        modules: dict[Placement, Mapping[str, nn.Module]] = {}
        if self.chip_modules:
            for placement in tree:
                made = self.chip_modules(source.all_weights(number), placement)  # read noise starts anew for each
                modules[placement] = {name: module.to(self.device) for name, module in made.items()}
        return HeldChip(source, number, weights, modules)

    def _weights(self, source: Chips, number: int, keeper: Keeper | None) -> dict[str, ProgrammedWeight]:
        key = ("weights", number, source.t_s)
        cache = self.cache if keeper or self.recording else None
        if cache and (kept := cache.get(key)):
            return kept[0]
        weights = self._programmed(source, number)
        if cache and not any(isinstance(weight, AnalogWeight) for weight in weights.values()):
            if keeper is not None:
                keeper.keep(key, weights, [], keeper.chips)
            elif cache.bytes + tensor_bytes(weights) <= cache.limit_bytes:  # the first chips stay
                cache.put(key, weights, [])
        return weights

    def _programmed(self, source: Chips, number: int) -> dict[str, ProgrammedWeight]:
        return {name: self._placed(weight) for name, weight in source.all_weights(number).items()}

    def _placed(self, weight: ProgrammedWeight) -> ProgrammedWeight:
        """Return a weight on the engine's device, and in the layout of its images."""
        if isinstance(weight, AnalogWeight) or weight.dim() != 4:
            return weight.to(self.device)
        return weight.to(self.device, memory_format=self.layout)

    @cached_property
    def nominal(self) -> dict[str, Tensor]:
        """Return the sites' own weights, by name."""
        return {site.name: matrix_of(self.network.model, site).detach() for site in self.network.sites}

    def _clean_site(self, call: int, site: int, x: Tensor, product: Product) -> Tensor:
        del call, x
        return product(self.nominal[self.network.sites[site].name], None)

    def _evaluate(
        self,
        tree: list[Placement],
        group: list[HeldChip],
        keeper: Keeper | None,
        number: int,
        images: Tensor,
        labels: Tensor,
    ) -> Counts:
        with torch.inference_mode(), self._arithmetic():
            block = self._clean_block(number, images, labels, keeper)
            if self.recording:
                walked = self._walk_recorded(block, group, tree)
            else:
                walked = [self._walk(block, chip, tree, keeper) for chip in group]
            counted, by_call = (torch.stack(parts) for parts in zip(*walked, strict=True))
            called = self._called if self._called is not None else torch.tensor(block.called, device=self.device)
            squares = by_call.new_zeros(*counted.shape, len(self.network.sites), 2).index_add_(2, called, by_call)
            of_calls = torch.stack([square(output) for output in block.clean])
            return counted, squares, of_calls.new_zeros(len(self.network.sites)).index_add_(0, called, of_calls)

    def _walker(self, block: ImageBlock, chip: HeldChip, tree: list[Placement], keeper: Keeper | None) -> Walk:
        return Walk(self.network, self.bank, block, chip, tree, keeper, self.nominal, self.metric)

    def _walk(
        self, block: ImageBlock, chip: HeldChip, tree: list[Placement], keeper: Keeper | None
    ) -> tuple[Tensor, Tensor]:
        """Walk one chip's tree; calibrated placements share nothing."""
        if not self.chip_modules:
            return self._walker(block, chip, tree, keeper).run()
        walked = [self._walker(block, chip, [placement], keeper).run() for placement in tree]
        correct, squares = zip(*walked, strict=True)
        return torch.cat(correct), torch.cat(squares)

    def _walk_recorded(
        self, block: ImageBlock, group: list[HeldChip], tree: list[Placement]
    ) -> list[tuple[Tensor, Tensor]]:
        """Walk the tree of every chip: a walk with the first one's weights, in whose place the others' come."""
        weights = [{name: w for name, w in chip.weights.items() if isinstance(w, Tensor)} for chip in group]
        held = {name: weight.clone() for name, weight in weights[0].items()}
        chip = HeldChip(self.chips, 0, held, {})
        walk = recorded(lambda: self._walker(block, chip, tree, None).run(), self.device)
        walked = []
        for others in weights:
            for name, weight in others.items():
                held[name].copy_(weight)
            correct, squares = walk()
            walked.append((correct.clone(), squares.clone()))
        return walked

    def _clean_block(self, number: int, images: Tensor, labels: Tensor, keeper: Keeper | None) -> ImageBlock:
        if keeper and (kept := keeper.cache.get(("clean", number))):
            return ImageBlock(number, images, labels, list(self.network.calls), list(kept[0].values()))
        block = ImageBlock(number, images, labels, [], [])

        def site(call: int, site: int, x: Tensor, product: Product) -> Tensor:
            block.called.append(site)
            output = self._clean_site(call, site, x, product)
            block.clean.append(output.clone() if self.network.opaque else output)  # it may be changed in place
            return output

        self.network.forward(images, site, self.nominal)
        missing = set(range(len(self.network.sites))) - set(block.called)
        if missing:
            raise MappingError(
                f"Layer {self.network.sites[min(missing)].name} was mapped, but the network bypasses it when it runs "
                "(a fused path of torch); use layers whose forward is called."
            )
        if keeper:
            keeper.keep(("clean", number), dict(enumerate(block.clean)), [], keeper.blocks)
        return block
