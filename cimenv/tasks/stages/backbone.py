"""The backbone: the network that a recipe trains, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.precision import arithmetic
from cimenv.core.store import Record
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.prepared import copied, uncompiled
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
from cimenv.tasks.stages.keys import STAGE_VERSIONS, physics_of, precision_of
from cimenv.tasks.stages.weights import load_weights, record_of, tensors_of
from cimenv.tasks.stages.workspace import Workspace
from cimenv.tasks.task import Task
from cimenv.training import Recipe

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
        histories: course of training, by recipe, that of the network it started from included.
    """

    model: nn.Module
    key: dict[str, Any]
    identity: Identity
    input_ranges: dict[str, Tensor]
    original: nn.Module
    histories: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)


def probe(work: Workspace) -> Tensor:
    """Return the fixed inputs by which networks of the user's own are distinguished, `[n, ...]`."""
    return work.data.train.inputs(slice(PROBE_IMAGES))


def own_backbone(work: Workspace, module: nn.Module | None) -> Backbone:
    """Return the user's own trained network: the module given, or the one that the task names with its weights."""
    if module is None:
        module = built(work.task)
        assert work.task.weights is not None
        load_weights(module, work.task.weights)
    module = uncompiled(module)  # what is judged need not be compiled for it
    model = explicit(copied(module).cpu(), work.task.crossbar.digital)
    identity = identity_of(work.store, type(module).__qualname__, model, probe(work), work.data.digest)
    key = {"stage": "own", "weights": arrays_digest(identity, model.state_dict()), "data": work.data.digest}
    elsewhere = any(p.device.type != "cpu" for p in module.parameters())
    return Backbone(model, key, identity, {}, copied(module).cpu() if elsewhere else module)


def trained_backbone(work: Workspace, recipe: Recipe) -> Backbone:
    """Return the backbone that a recipe trains."""
    task, own = work.task, is_own(work.task.backbone)
    before = trained_backbone(work, task.reference) if recipe.fine_tunes else None
    key = backbone_key(work, recipe, before)
    start = before.model.state_dict() if before else None
    while True:
        record = work.trained(key, lambda: _fitted(work, recipe, key, start), f"the backbone ({recipe.name})")
        arrays = tensors_of(record)
        outputs = arrays.pop(OUTPUTS, None)
        ranges = {name.removeprefix(RANGE): arrays.pop(name) for name in list(arrays) if name.startswith(RANGE)}
        model = explicit(built(task) if own else without_weights(task.backbone, task.backbone_args))
        if not own or _fits(model, arrays, outputs, probe(work)):
            break
        key["variant"] = key.get("variant", 0) + 1  # the factory makes another network now
    model.load_state_dict(arrays, assign=not own)  # which would part what shares a weight
    identity = Identity.of_backbone(task.backbone, task.backbone_args, key.get("variant", 0))
    histories = {**(before.histories if before else {}), recipe.name: record.meta["history"]}
    return Backbone(model, key, identity, ranges, model, histories)


def backbone_key(work: Workspace, recipe: Recipe, before: Backbone | None) -> dict[str, Any]:
    """Return the key of a network's weights; `before` is the network that a recipe which fine-tunes starts from."""
    task = work.task
    key: dict[str, Any] = {
        "stage": "backbone",
        "version": STAGE_VERSIONS["backbone"],
        "backbone": task.backbone,
        "backbone_args": task.backbone_args,
        "data": work.data.digest,
        "recipe": recipe.model_dump(mode="json"),
        "seed": task.training_seed,
        **precision_of(task.training_precision),
    }
    if before is not None:
        key |= {"start": before.key, "crossbar": physics_of(task.trained_for or task.crossbar)}
    return key


def _fitted(work: Workspace, recipe: Recipe, key: dict[str, Any], start: dict[str, Tensor] | None) -> Record:
    task = work.task
    with work.seeded(key) as generator:
        model = explicit(build_backbone(task.backbone, task.backbone_args))
        if start is not None:
            model.load_state_dict(start)
        model, data = model.to(task.training_device), work.data.for_training(task.training_device)
        with arithmetic(task.training_precision, task.training_device):
            trained = recipe.fit(model, data, generator, work.progress, task.trained_for or task.crossbar)
    kept = {f"{RANGE}{name}": value for name, value in trained.input_ranges.items()}
    if is_own(task.backbone):
        model.load_state_dict(trained.state)
        kept[OUTPUTS] = clean_outputs(model.cpu(), probe(work))
    return record_of({**trained.state, **kept}, {"history": trained.history})


def built(task: Task) -> nn.Module:
    """Build the backbone without touching torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        return build_backbone(task.backbone, task.backbone_args)


def _fits(model: nn.Module, arrays: Mapping[str, Tensor], outputs: Tensor | None, inputs: Tensor) -> bool:
    """Return whether a factory's network is the one that was trained: its weights fit, and its outputs are the same."""
    try:
        model.load_state_dict(dict(arrays))
    except RuntimeError:
        return False
    return outputs is None or same_outputs(clean_outputs(model, inputs), outputs)
