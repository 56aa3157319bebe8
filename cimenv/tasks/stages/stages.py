"""What a problem trains, a stage each: the backbone, and the bank; the key of a stage stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, bank_arrays, bank_from
from cimenv.compensation.fit_log import FitLog
from cimenv.compensation.options import Options
from cimenv.core.precision import arithmetic
from cimenv.core.progress import Progress
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record, Store
from cimenv.core.threads import torch_threads
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.prepared import copied, uncompiled
from cimenv.data import DataSplits
from cimenv.evaluation.protection import channel_scores
from cimenv.networks import build_backbone, without_weights
from cimenv.tasks.stages.identity import (
    PROBE_IMAGES,
    Identity,
    arrays_digest,
    clean_outputs,
    identity_of,
    is_own,
    same_outputs,
)
from cimenv.tasks.stages.keys import STAGE_VERSIONS, conditions_of, physics_of, precision_of, trained_once
from cimenv.tasks.stages.weights import load_weights, record_of, tensors_of
from cimenv.tasks.task import Task
from cimenv.training import AnyRecipe, fit_bank

RANGE = "input_range/"
OUTPUTS = "clean_outputs"  # of a user's own backbone, on fixed inputs


@dataclass(frozen=True)
class Backbone:
    """A network with trained weights.

    Attributes:
        model: the network.
        key: what it was trained from, or what it is.
        identity: tells this network from others that have the same weights.
        input_ranges: that training found, by site name.
        original: the user's own module, where `model` is a copy of one; else `model`.
    """

    model: nn.Module
    key: dict[str, Any]
    identity: Identity
    input_ranges: dict[str, Tensor]
    original: nn.Module


@dataclass
class Stages:
    """Trains what a task says, or takes it from the store.

    Attributes:
        task: the description.
        data: the splits.
        store: where trained things are kept.
        progress: opens bars.
        histories: course of training, by recipe.
    """

    task: Task
    data: DataSplits
    store: Store
    progress: Progress
    histories: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def probe(self) -> Tensor:
        """Return the fixed inputs that networks of the user's own are told apart by, `[n, ...]`."""
        return self.data.train.inputs(slice(PROBE_IMAGES))

    def own(self, module: nn.Module | None) -> Backbone:
        """Return the user's own trained network: the module given, or the one that the task names with its weights."""
        if module is None:
            module = built(self.task)
            assert self.task.weights is not None
            load_weights(module, self.task.weights)
        module = uncompiled(module)  # what is judged need not be compiled for it
        model = explicit(copied(module).cpu())
        identity = identity_of(self.store, type(module).__qualname__, model, self.probe, self.data.digest)
        key = {"stage": "own", "weights": arrays_digest(identity, model.state_dict()), "data": self.data.digest}
        elsewhere = any(p.device.type != "cpu" for p in module.parameters())
        return Backbone(model, key, identity, {}, copied(module).cpu() if elsewhere else module)

    def backbone(self, recipe: AnyRecipe) -> Backbone:
        """Return the backbone that a recipe trains."""
        task, own = self.task, is_own(self.task.backbone)
        key: dict[str, Any] = {
            "stage": "backbone",
            "version": STAGE_VERSIONS["backbone"],
            "backbone": task.backbone,
            "backbone_args": task.backbone_args,
            "data": self.data.digest,
            "recipe": recipe.model_dump(mode="json"),
            "seed": task.training_seed,
            **precision_of(task.training_precision),
        }
        start: dict[str, Tensor] | None = None
        trained_for = task.trained_for or task.crossbar
        if recipe.fine_tunes:
            before = self.backbone(task.reference)
            key |= {"start": before.key, "crossbar": physics_of(trained_for)}
            start = before.model.state_dict()

        def compute() -> Record:
            generator = torch_generator(key)
            with torch_threads(task.training_threads), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
                model = explicit(build_backbone(task.backbone, task.backbone_args))
                if start is not None:
                    model.load_state_dict(start)
                model, data = model.to(task.training_device), self.data.for_training(task.training_device)
                with arithmetic(task.training_precision, task.training_device):
                    trained = recipe.fit(model, data, generator, self.progress, trained_for)
            kept = {f"{RANGE}{name}": value for name, value in trained.input_ranges.items()}
            if own:
                model.load_state_dict(trained.state)
                kept[OUTPUTS] = clean_outputs(model.cpu(), self.probe)
            return record_of({**trained.state, **kept}, {"history": trained.history})

        while True:
            record = trained_once(self.store, task, key, compute, f"the backbone ({recipe.name})")
            arrays = tensors_of(record)
            outputs = arrays.pop(OUTPUTS, None)
            ranges = {name.removeprefix(RANGE): arrays.pop(name) for name in list(arrays) if name.startswith(RANGE)}
            model = explicit(built(task) if own else without_weights(task.backbone, task.backbone_args))
            if not own or _fits(model, arrays, outputs, self.probe):
                break
            key["variant"] = key.get("variant", 0) + 1  # the factory makes another network now
        self.histories[recipe.name] = record.meta["history"]
        model.load_state_dict(arrays, assign=True)
        identity = Identity.of_backbone(task.backbone, task.backbone_args, key.get("variant", 0))
        return Backbone(model, key, identity, ranges, model)

    def bank(
        self, network: MappedNetwork, options: Options, backbone_key: dict[str, Any]
    ) -> tuple[CompensationBank, FitLog | None]:
        """Return the fitted bank of a mapped backbone, and the log of its fit; None where nothing was fitted."""
        task = self.task
        key = {
            "stage": "bank",
            "version": STAGE_VERSIONS["bank"],
            "backbone": backbone_key,
            **conditions_of(task),
            "options": [[o.model_dump() for o in here] for here in options.per_site],
            "recipe": task.bank.model_dump(mode="json"),
            "seed": task.training_seed,
        }

        kinds = {(option.kind, option.size) for here in options.per_site for option in here}
        fits = any(kind != "digital" for kind, _ in kinds)
        partial = any(kind == "digital" and size < 1 for kind, size in kinds)
        protection = task.protection if partial else "weight_norm"
        if protection != "weight_norm":
            key["protection"] = protection

        def compute() -> Record:
            generator = torch_generator(key)
            with torch_threads(task.training_threads), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
                bank, train = CompensationBank(options), self.data.train
                log: dict[str, Tensor] = {}
                if protection != "weight_norm":
                    bank.protect(channel_scores(network, train, protection, task.times_s[-1]))
                if fits:
                    placed, bank = placed_for_training(network, task), bank.to(task.training_device)
                    train = train.to(task.training_device)
                    with arithmetic(task.training_precision, task.training_device):
                        fitted = fit_bank(placed, bank, train, task.bank, generator, self.progress, task.times_s)
                    log = fitted.arrays()
            return record_of({**bank_arrays(bank), **log})

        if not fits and protection == "weight_norm":
            return CompensationBank(options).eval(), None
        arrays = tensors_of(trained_once(self.store, task, key, compute, "the bank"))
        log = FitLog.taken_from(arrays)
        return bank_from(options, arrays), log


def placed_for_training(network: MappedNetwork, task: Task) -> MappedNetwork:
    """Return a copy of the network where the task trains."""
    ranges = {name: value.to(task.training_device) for name, value in network.input_ranges.items()}
    return replace(network, model=copied(network.model).to(task.training_device), input_ranges=ranges)


def built(task: Task) -> nn.Module:
    """Build the backbone without touching torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return build_backbone(task.backbone, task.backbone_args)


def _fits(model: nn.Module, arrays: Mapping[str, Tensor], outputs: Tensor | None, probe: Tensor) -> bool:
    """Return whether a factory's network is the one that was trained: its weights fit, and its outputs are the same."""
    try:
        model.load_state_dict(dict(arrays))
    except RuntimeError:
        return False
    return outputs is None or same_outputs(clean_outputs(model, probe), outputs)
