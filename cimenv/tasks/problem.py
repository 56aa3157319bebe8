"""Problem.build: the only thing that trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, bank_arrays, bank_from
from cimenv.compensation.fit_log import FitLog, Gains
from cimenv.compensation.options import Options, Placement, options_by_type
from cimenv.core.errors import ConfigError, DataError
from cimenv.core.global_state import own_torch_state
from cimenv.core.precision import arithmetic
from cimenv.core.progress import Progress, silent
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record, Store
from cimenv.core.threads import torch_threads
from cimenv.crossbar.batchnorm import batch_norms, recalibrate_shared
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.mapping import MappedNetwork, map_network
from cimenv.crossbar.prepared import copied, uncompiled
from cimenv.crossbar.saturation import Saturation, saturation
from cimenv.data import DataSplits, load_data
from cimenv.data.splits import Split
from cimenv.evaluation.agreement import agrees
from cimenv.evaluation.calibration import chip_calibrator
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.memory import GIB, KEPT
from cimenv.evaluation.prefix import PrefixCache
from cimenv.evaluation.segments import SegmentedNetwork
from cimenv.tasks.stages.identity import Identity, arrays_digest
from cimenv.tasks.stages.keys import STAGE_VERSIONS, conditions_of, trained_once
from cimenv.tasks.stages.stages import RANGE, Stages, built, placed_for_training
from cimenv.tasks.stages.weights import record_of, tensors_of, under_way
from cimenv.tasks.task import Task
from cimenv.training import fit_placement

SHIPPED = Path(str(files("cimenv.tasks"))) / "shipped"
KEPT_ACTIVATIONS = 256 * 2**20
KEPT_WIDE_ACTIVATIONS = 2**30  # deep networks of wide convolutions
RANGE_IMAGES = 1_000


@dataclass(frozen=True)
class UserObjects:
    """A user's own trained network and data in the place of names."""

    model: nn.Module
    data: DataSplits


def default_store(root: str | Path | None = None) -> Store:
    """Return the store in `CIMENV_CACHE` (or `root`) over the read-only layer that ships with the package."""
    return Store(root, layers=(SHIPPED,))


@dataclass(frozen=True)
class Problem:
    """A task with trained backbone and bank.

    Attributes:
        task: the description.
        data: the three splits.
        network: the mapped backbone, frozen.
        bank: the fitted blocks.
        reference: the clean network that acc_ref is measured on: the `standard` recipe's, or the user's own.
        identity: tells the backbone from others that have the same weights.
        weights_digest: hash of identity, backbone and bank weights; evaluations are keyed by it.
        histories: course of training, by what was trained.
        fit_log: of the bank; None where nothing was fitted, or by a cimenv that kept none.
        plain: whether the network runs as its author wrote it: its pieces would give other outputs.
    """

    task: Task
    data: DataSplits
    network: MappedNetwork
    bank: CompensationBank
    reference: nn.Module
    identity: Identity
    weights_digest: str
    store: Store
    histories: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
    fit_log: FitLog | None = field(default=None, repr=False)
    plain: bool = False

    @staticmethod
    @own_torch_state()
    def build(
        task: Task,
        store: Store | None = None,
        progress: Progress = silent,
        objects: UserObjects | None = None,
    ) -> Problem:
        """Train or load everything a task needs. Every training happens once per store.

        Args:
            task: the description.
            store: where trained weights are kept; default `default_store()`.
            progress: opens a bar for what takes long.
            objects: the user's own network and data, instead of the task's names.

        Raises:
            DataError, MappingError, ConfigError, StoreError: the task's parts are missing or do not fit.
        """
        return _Builder(task, store or default_store(), progress, objects).build()

    @property
    def options(self) -> Options:
        """Return the block options of every site."""
        return self.bank.options

    @cached_property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted; None where there is no log of it."""
        return self.fit_log.gains(tuple(map(len, self.options.per_site))) if self.fit_log else None

    def chips(self, split: Split) -> Chips:
        """Return the chips of a split."""
        return Chips(self.network, self.task.chip_seed, split)

    @cached_property
    def segments(self) -> SegmentedNetwork:
        """Return the backbone, cut at its sites."""
        return SegmentedNetwork(self.network.model, self.network.sites, self.plain, self.network.origins)

    @cached_property
    def reference_digest(self) -> str:
        """Return a hash of the reference's weights."""
        return arrays_digest(self.identity, self.reference.state_dict())

    def images(self, split: Split) -> int:
        """Return how many images an evaluation uses."""
        return min(self.task.images if split == "val" else self.task.report_images, len(self.data[split]))

    @own_torch_state()
    def evaluated(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return inputs `[n, c, h, w]` and labels `[n]` of an evaluation: the first on `val`, spaced evenly on `test`.

        MNIST's official test images become harder towards the end, so that the first ones would flatter.
        """
        part, count = self.data[split], self.images(split)
        which = torch.arange(count) * len(part) // count if split == "test" else slice(count)
        return part.inputs(which), part.labels[which]

    def saturation(self, split: Split) -> dict[str, Saturation]:
        """Return what the converters of every site cut off on the split's first chip, at the task's last time.

        Raises:
            ConfigError: no site of the crossbar is analog.
        """
        chip = self.chips(split).at(self.task.times_s[-1]).all_weights(0)
        return saturation(self.network, self.evaluated(split)[0], chip)

    def engine(
        self, split: Split, bank: CompensationBank | None = None, threads: int = 1, device: str = "cpu"
    ) -> Engine:
        """Return an engine for the images of a split."""
        images, labels = self.evaluated(split)
        limit = int(self.task.memory_limit * GIB)
        kept = KEPT_WIDE_ACTIVATIONS if self.network.gains_by_channels_last else KEPT_ACTIVATIONS
        if device != "cpu":  # the chips' weights
            kept = limit
        per_chip = self.task.crossbar.batch_norm == "per_chip" and batch_norms(self.network.model)
        serving = bank or self.bank
        return Engine(
            self.segments,
            self.chips(split),
            serving,
            images,
            labels,
            threads=threads,
            device=device,
            precision=self.task.precision,
            cache=PrefixCache(min(kept, int(KEPT * limit))) if bank is None else None,
            memory_limit=limit,
            chip_modules=chip_calibrator(self.network, serving, self._calibration_images) if per_chip else None,
        )

    def reference_accuracy(self, split: Split) -> float:
        """Return acc_ref: clean accuracy of the `standard` recipe on the images of an evaluation."""
        segments = SegmentedNetwork(self.reference, self.network.sites, self.plain, self.network.origins)
        return self._clean(segments, split)

    def clean_accuracy(self, split: Split) -> float:
        """Return the clean accuracy of the backbone itself on the images of an evaluation."""
        return self._clean(self.segments, split)

    @own_torch_state()
    def tuned_bank(self, placement: Placement, progress: Progress = silent) -> CompensationBank:
        """Return blocks fitted for one placement, starting from the bank; kept in the store."""
        blocks = [option and option.model_dump() for option in self.options.blocks(placement)]
        key = {
            "stage": "tuned",
            "version": STAGE_VERSIONS["tuned"],
            "weights": self.weights_digest,
            **conditions_of(self.task),
            "recipe": self.task.tuned.model_dump(mode="json"),
            "data": self.data.digest,
            "blocks": blocks,
            "seed": self.task.training_seed,
        }
        kept = under_way(self.store, self.task, key)

        def compute() -> Record:
            bank = bank_from(self.options, {n: v.clone() for n, v in bank_arrays(self.bank).items()})
            network = placed_for_training(self.network, self.task)  # other threads may be fitting other placements
            task, train = self.task, self.data.train.to(self.task.training_device)
            generator = torch_generator(key)
            with torch_threads(task.training_threads), arithmetic(task.training_precision, task.training_device):
                bank = bank.to(task.training_device)
                fit_placement(network, bank, placement, train, task.tuned, generator, progress, task.times_s, kept)
            return record_of(bank_arrays(bank))

        record = trained_once(self.store, self.task, key, compute, "the blocks of a placement")
        kept.done()
        return bank_from(self.options, tensors_of(record))

    def _clean(self, segments: SegmentedNetwork, split: Split) -> float:
        images, labels = self.evaluated(split)
        return Engine(segments, self.chips(split), self.bank, images, labels).clean_correct() / len(labels)

    @cached_property
    def _calibration_images(self) -> Tensor:
        return self.data.train.inputs(slice(self.task.crossbar.batch_norm_images))


class _Builder:
    def __init__(self, task: Task, store: Store, progress: Progress, objects: UserObjects | None) -> None:
        self.task, self.objects = task, objects
        task.check_imports()
        self.data = objects.data if objects else load_data(task.data)
        self.stages = Stages(task, self.data, store, progress)

    def build(self) -> Problem:
        task, stages = self.task, self.stages
        own = self.objects is not None or task.weights is not None
        self._check_shapes()
        trained = stages.own(self.objects.model if self.objects else None) if own else stages.backbone(task.recipe)
        model = trained.model.eval().requires_grad_(False)
        # A copy: recalibrated batch norms must not change what the clean accuracy is measured on.
        reference = copied(model) if own else stages.backbone(task.reference).model
        origins = dict(trained.original.named_parameters(remove_duplicate=False)) if own else {}
        network = map_network(model, task.crossbar, self.data.image_shape, origins)
        plain = not agrees(network, trained.original, stages.probe)
        network = self._with_ranges(network, trained.input_ranges)
        if task.crossbar.batch_norm == "shared":
            self._recalibrate(network)
        options = options_by_type(network.sites, task.options)
        bank, log = stages.bank(network, options, trained.key)
        arrays = {**network.model.state_dict(), **{f"bank/{n}": v for n, v in bank_arrays(bank).items()}}
        arrays |= {f"{RANGE}{name}": value for name, value in network.input_ranges.items()}
        return Problem(
            task,
            self.data,
            network,
            bank,
            reference.eval().requires_grad_(False),
            trained.identity,
            arrays_digest(trained.identity, arrays),
            stages.store,
            stages.histories,
            log,
            plain,
        )

    def _with_ranges(self, network: MappedNetwork, ranges: dict[str, Tensor]) -> MappedNetwork:
        """Return the network with the input ranges that training found, else with calibrated ones."""
        if not network.analog:
            return network
        if ranges:
            return replace(network, input_ranges=ranges)
        return network.calibrated(self.data.train.inputs(slice(RANGE_IMAGES)))

    def _recalibrate(self, network: MappedNetwork) -> None:
        config = self.task.crossbar
        chips, times = Chips(network, self.task.chip_seed, "train"), self.task.times_s
        images = self.data.train.inputs(slice(config.batch_norm_images))
        weights = (chips.at(times[k % len(times)]).all_weights(k) for k in range(config.batch_norm_chips))
        recalibrate_shared(network.model, weights, images, sites=network.sites)

    def _check_shapes(self) -> None:
        """Refuse data that do not fit the backbone, or a device that is not there, before anything is trained."""
        if self.task.training_device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("training_device: got 'cuda', but torch finds no GPU; use cpu.")
        model = uncompiled(self.objects.model) if self.objects else built(self.task)
        map_network(model, self.task.crossbar, self.data.image_shape)
        model = copied(model).cpu()
        with torch.no_grad():
            outputs = model.eval()(self.data.train.inputs(slice(1)))
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] < self.data.classes:
            shape = tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise DataError(
                f"The backbone's output has shape {shape} per image, but {self.data.name} has "
                f"{self.data.classes} classes; give a backbone with one logit per class."
            )
