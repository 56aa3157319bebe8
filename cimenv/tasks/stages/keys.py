"""What numbers depend on: the parts of every key in the store."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch

from cimenv.core.config import canonical
from cimenv.core.precision import Precision
from cimenv.core.store import Record, Store
from cimenv.core.threads import allowed_threads
from cimenv.crossbar.config import CrossbarConfig
from cimenv.tasks.task import Task

# Bumped when the numbers of a stage change; never the package's version.
CHAIN_VERSION = 2  # of the analog chain, its gradients included
STAGE_VERSIONS = {"backbone": 1, "bank": 1, "tuned": 1, "evaluation": 2, "attack": 3}


def training_environment(task: Task, threads: int | None = None) -> dict[str, Any]:
    """Return the circumstances that change trained weights besides the task: threads, torch version, processor type."""
    return {
        "threads": threads or allowed_threads(task.training_threads),
        "torch": torch.__version__.split("+")[0],
        "device": task.training_device,
        "machine": platform.machine(),
    }


def trained_once(store: Store, task: Task, key: dict[str, Any], compute: Callable[[], Record], what: str) -> Record:
    """Return the record that ships with the package or that this machine trained; train it where there is none.

    A worker process, which has one thread, takes what the main process trained with more.
    """
    for environment in ({}, training_environment(task, task.training_threads)):
        record = store.get(canonical({**key, **environment}))
        if record is not None:
            return record
    return store.once(canonical({**key, **training_environment(task)}), compute, what)


def conditions_of(task: Task) -> dict[str, Any]:
    """Return the conditions of a fit: the crossbar, the times, and the chips of shared batch-norm statistics."""
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
    """Return the fields of a crossbar that change numbers; the others change the cost alone."""
    simple = not (config.analog or config.overrides or config.digital or config.device.ages)
    fields = {"device", "batch_norm", "batch_norm_chips", "batch_norm_images"}
    if simple:
        return config.model_dump(mode="json", include=fields)
    fields = {"tile_columns", "weight_bits", "device_bits", "technology_nm"}
    versions = {"converter_versions": config.converter_versions} if config.converter_versions else {}
    return {**config.model_dump(mode="json", exclude=fields), "version": CHAIN_VERSION, **versions}
