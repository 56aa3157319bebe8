"""What numbers depend on: the parts of every key in the store."""

from __future__ import annotations

import inspect
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.config import canonical, digest
from cimenv.core.precision import Precision
from cimenv.core.store import Record, Store
from cimenv.core.threads import allowed_threads
from cimenv.crossbar.config import CrossbarConfig
from cimenv.tasks.task import Task

# Bumped when the numbers of a stage change; never the package's version.
CHAIN_VERSION = 2  # of the analog chain, its gradients included
STAGE_VERSIONS = {"backbone": 1, "bank": 1, "tuned": 1, "evaluation": 1, "attack": 3}


def training_environment(task: Task, threads: int | None = None) -> dict[str, Any]:
    """Return what changes trained weights besides the task: threads, torch version, processor type."""
    return {
        "threads": threads or allowed_threads(task.training_threads),
        "torch": torch.__version__.split("+")[0],
        "device": task.training_device,
        "machine": platform.machine(),
    }


def trained_once(store: Store, task: Task, key: dict[str, Any], compute: Callable[[], Record], what: str) -> Record:
    """Return what ships with the package, else what this machine trained, else train it.

    A worker process, which has one thread, takes what the main process trained with more.
    """
    for environment in ({}, training_environment(task, task.training_threads)):
        found = store.get(canonical({**key, **environment}))
        if found is not None:
            return found
    return store.once(canonical({**key, **training_environment(task)}), compute, what)


def weights_digest(arrays: Mapping[str, Tensor], model: nn.Module) -> str:
    """Return a hash of named tensors and of the network that computes with them: its layers and their source."""
    kinds = {type(module) for module in model.modules() if not type(module).__module__.startswith("torch.")}
    sources = sorted(_source(kind) for kind in kinds)
    parts = [_text(model), *sources, *_settings(model)]
    parts += [f"{name}:{digest(value.contiguous().cpu().numpy().tobytes())}" for name, value in arrays.items()]
    return digest("\n".join(sorted(parts)))


def _text(model: nn.Module) -> str:
    """Return a network's text as torch prints it since its norms name their bias: digests do not tell older ones.

    Layer norms without a bias excepted: older versions print them like those that have one.
    """
    return re.sub(r"(affine=(\w+))(?=, track_running_stats|\))", r"\1, bias=\2", repr(model))


def _settings(model: nn.Module) -> Iterator[str]:
    """Yield the plain attributes of modules that are not torch's own: what neither their text nor their source says."""
    for name, module in model.named_modules():
        if not type(module).__module__.startswith("torch."):
            for field, value in sorted(vars(module).items()):
                if isinstance(value, bool | int | float | str) and field != "training":
                    yield f"{name}.{field}={value!r}"


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # defined where no source is kept, such as a prompt
        code = getattr(getattr(kind, "forward", None), "__code__", None)
        return f"{kind.__qualname__}:{code.co_code.hex() if code else ''}:{code.co_names if code else ''}"


def conditions_of(task: Task) -> dict[str, Any]:
    """Return what blocks are fitted under: the crossbar, the times, and the chips of shared batch-norm statistics."""
    conditions: dict[str, Any] = {"crossbar": physics_of(task.crossbar)}
    if task.times_s != (0.0,):
        conditions["times_s"] = list(task.times_s)
    if task.crossbar.batch_norm == "shared":
        conditions["chip_seed"] = task.chip_seed
    return {**conditions, **precision_of(task.training_precision)}


def precision_of(precision: Precision) -> dict[str, Any]:
    """Return the precision of products where it is not single."""
    return {} if precision == "float32" else {"precision": precision}


def physics_of(config: CrossbarConfig) -> dict[str, Any]:
    """Return the fields of a crossbar that change numbers; the rest counts for the cost alone."""
    simple = not (config.analog or config.overrides or config.digital or config.device.ages)
    fields = {"device", "batch_norm", "batch_norm_chips", "batch_norm_images"}
    if simple:
        return config.model_dump(mode="json", include=fields)
    fields = {"tile_columns", "weight_bits", "device_bits", "technology_nm"}
    return {**config.model_dump(mode="json", exclude=fields), "version": CHAIN_VERSION}
