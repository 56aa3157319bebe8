"""Problem.build: the only thing that trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, bank_arrays
from cimenv.compensation.fit_log import FitLog, Gains
from cimenv.compensation.options import Options, Placement, options_by_type
from cimenv.core.errors import ConfigError, DataError
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, silent
from cimenv.core.store import Store
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.mapping import MappedNetwork, map_network
from cimenv.crossbar.prepared import copied, uncompiled
from cimenv.crossbar.saturation import Saturation, saturation
from cimenv.data import DataSplits, load_data
from cimenv.data.splits import Split
from cimenv.evaluation.agreement import agrees
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.metrics import metric_named
from cimenv.evaluation.segments import SegmentedNetwork
from cimenv.tasks.requests import Request
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.stages.backbone import RANGE, built, own_backbone, probe, trained_backbone
from cimenv.tasks.stages.blocks import fitted_bank, tuned_blocks
from cimenv.tasks.stages.identity import Identity, arrays_digest
from cimenv.tasks.stages.mapped import recalibrated, with_ranges
from cimenv.tasks.stages.workspace import Workspace
from cimenv.tasks.task import Task

SHIPPED = Path(str(files("cimenv.tasks"))) / "shipped"


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
        task.check_imports()
        data = objects.data if objects else load_data(task.data)
        work = Workspace(task, data, store or default_store(), progress)
        _check_shapes(work, objects)
        own = objects is not None or task.weights is not None
        trained = own_backbone(work, objects.model if objects else None) if own else trained_backbone(work, task.recipe)
        model = trained.model.eval().requires_grad_(False)
        # A copy: recalibrated batch norms must not change what the clean accuracy is measured on.
        reference = replace(trained, model=copied(model)) if own else trained_backbone(work, task.reference)
        origins = dict(trained.original.named_parameters(remove_duplicate=False)) if own else {}
        network = map_network(model, task.crossbar, data.image_shape, origins)
        plain = not agrees(network, trained.original, probe(work))
        network = recalibrated(work, with_ranges(work, network, trained.input_ranges))
        bank, log = fitted_bank(work, network, options_by_type(network.sites, task.options), trained.key)
        return Problem(
            task=task,
            data=data,
            network=network,
            bank=bank,
            reference=reference.model.eval().requires_grad_(False),
            identity=trained.identity,
            weights_digest=_weights_digest(network, bank, trained.identity),
            store=work.store,
            histories={**trained.histories, **reference.histories},
            fit_log=log,
            plain=plain,
        )

    @property
    def options(self) -> Options:
        """Return the block options of every site."""
        return self.bank.options

    @cached_property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted, or None where the fit was not logged."""
        return self.fit_log.gains(tuple(map(len, self.options.per_site))) if self.fit_log else None

    @cached_property
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""
        return PlacementSpace(self.task, self.options)

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
        work = Workspace(self.task, self.data, self.store, progress)
        return tuned_blocks(work, self.network, self.bank, self.weights_digest, placement)

    def blocks(self, request: Request, progress: Progress = silent) -> CompensationBank:
        """Return the blocks that a request is evaluated with: the bank, or those fitted for its placement."""
        return self.bank if request.fidelity == "bank" else self.tuned_bank(request.placement, progress)

    def _clean(self, segments: SegmentedNetwork, split: Split) -> float:
        images, labels = self.evaluated(split)
        metric = metric_named(self.task.metric)
        engine = Engine(segments, self.chips(split), self.bank, images, labels, metric=metric)
        return float(metric.compute(np.array(engine.clean_sum()), len(labels)))


def _weights_digest(network: MappedNetwork, bank: CompensationBank, identity: Identity) -> str:
    """Return a hash of a mapped network and its blocks."""
    arrays = {**network.model.state_dict(), **{f"bank/{n}": v for n, v in bank_arrays(bank).items()}}
    arrays |= {f"{RANGE}{name}": value for name, value in network.input_ranges.items()}
    return arrays_digest(identity, arrays)


def _check_shapes(work: Workspace, objects: UserObjects | None) -> None:
    """Refuse data that do not fit the backbone, or a device that is not there, before anything is trained."""
    task, data = work.task, work.data
    if task.training_device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training_device: got 'cuda', but torch finds no GPU; use cpu.")
    model = uncompiled(objects.model) if objects else built(task)
    map_network(model, task.crossbar, data.image_shape)
    model = copied(model).cpu()
    with torch.no_grad():
        outputs = model.eval()(data.train.inputs(slice(1)))
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] < data.classes:
        shape = tuple(outputs.shape[1:]) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(
            f"The backbone's output has shape {shape} per image, but {data.name} has {data.classes} classes; give a "
            "backbone with one logit per class."
        )
