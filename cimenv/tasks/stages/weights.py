"""Weights in files and in records of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cimenv.core.config import canonical
from cimenv.core.errors import ConfigError
from cimenv.core.files import WEIGHTS, checked_file
from cimenv.core.store import Record, Store
from cimenv.tasks.stages.keys import training_environment
from cimenv.tasks.task import Task
from cimenv.training.resuming import Kept


def load_weights(model: nn.Module, path: str) -> None:
    """Load a safetensors file into a model.

    Raises:
        ConfigError: the file is missing, no regular file, damaged, or does not fit; it holds whole numbers for
            fractions, or NaN.
    """
    try:
        checked_file(path, WEIGHTS)
        given, own = load_file(path), model.state_dict()
        for name in given.keys() & own.keys():
            if given[name].is_floating_point() != own[name].is_floating_point():
                raise ConfigError(f"weights: {name} is {given[name].dtype} in '{path}'; give it as {own[name].dtype}.")
            if given[name].is_floating_point() and not bool(given[name].float().isfinite().all()):
                raise ConfigError(f"weights: {name} holds NaN or infinity in '{path}'; give finite weights.")
        model.load_state_dict(given)
    except (OSError, SafetensorError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"weights: cannot load '{path}' ({text}); give a safetensors file that fits.") from None


def record_of(arrays: Mapping[str, Tensor], meta: dict[str, Any] | None = None) -> Record:
    """Return named tensors as a record."""
    return Record(meta or {}, {name: np.array(value.cpu().numpy()) for name, value in arrays.items()})


def tensors_of(record: Record) -> dict[str, Tensor]:
    """Return the tensors of a record, by name."""
    return {name: torch.from_numpy(np.array(value)) for name, value in record.arrays.items()}


def under_way(store: Store, task: Task, key: Mapping[str, Any]) -> Kept:
    """Return where a training with this key is kept until it is over; what another torch began is left alone."""
    return Kept(store, canonical({**key, **training_environment(task), "stage": "under way", "of": key["stage"]}))
