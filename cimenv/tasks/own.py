"""A user's own trained network and data: as objects, or named by their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cimenv.compensation.options import Options, options_by_type
from cimenv.core.config import call_object, load_object
from cimenv.core.errors import ConfigError, DataError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.mapping import map_network
from cimenv.crossbar.prepared import copied
from cimenv.crossbar.sites import SITE_TYPES
from cimenv.data import DataSplits, load_data
from cimenv.tasks.loading import load_task
from cimenv.tasks.problem import UserObjects
from cimenv.tasks.stages.weights import load_weights
from cimenv.tasks.task import Task

OWN = ("backbone", "backbone_args", "data", "recipe", "reference", "weights")  # fields that the user's objects replace

AnyCrossbar = CrossbarConfig | DeviceModel | Mapping[str, Any] | str | None


def own_task(
    caller: str, model: nn.Module, data: DataSplits | str, crossbar: AnyCrossbar, fields: Mapping[str, Any]
) -> tuple[Task, UserObjects]:
    """Return the task that a user's own objects make, and these objects.

    Args:
        caller: who was given them, for the messages.
        model: a trained classifier.
        data: the splits, or the name of a data set.
        crossbar: device model and array, the device alone, or what a task's YAML says; None is log-normal, sigma 0.5.
        fields: other fields of the task; default options are those of `lenet5-fashion-mini`, a dense layer's for every
            layer that is no convolution.

    Raises:
        ConfigError: the model is none, or a field is unknown or holds what is not allowed.
        DataError: the data are none.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: got a {type(model).__name__}; give a trained torch.nn.Module.")
    if wrong := [
        p.dtype for p in model.parameters() if p.dtype != torch.float32 and (p.is_floating_point() or p.dim() > 1)
    ]:
        raise ConfigError(f"model: its weights are {wrong[0]}; give model.float().")
    if idle := [name for name in fields if name in OWN]:
        raise ConfigError(f"{idle[0]}: {caller} takes the model and the data as they are; leave it out.")
    splits = load_data(data) if isinstance(data, str) else data
    if not isinstance(splits, DataSplits):
        raise DataError(f"data: got a {type(splits).__name__}; give cimenv.DataSplits, or the name of a data set.")
    if isinstance(crossbar, DeviceModel):
        crossbar = CrossbarConfig(device=crossbar)
    if isinstance(crossbar, CrossbarConfig):
        crossbar = crossbar.model_dump(mode="json")
    options = load_task("lenet5-fashion-mini").options
    task = Task(
        **{
            "options": {site: options["conv" if site == "conv" else "dense"] for site in SITE_TYPES},
            "name": type(model).__name__,
            "crossbar": {} if crossbar is None else crossbar,
            **fields,
        }
    )
    return task, UserObjects(model, splits)


def own_options(task: Task, objects: UserObjects) -> Options:
    """Return the block options of every site of a user's own network; nothing is trained."""
    network = map_network(objects.model, task.crossbar, objects.data.image_shape)
    return options_by_type(network.sites, task.options)


def named_model(path: str, weights: str | None = None) -> nn.Module:
    """Return the network that `mine.py:network` or `package.module:network` names: a module, or what a factory returns.

    Args:
        path: where it is.
        weights: a safetensors file of its weights; None: it comes trained.

    Raises:
        ConfigError: it cannot be loaded, is no network, or the weights do not fit.
    """
    named = load_object(path)
    with torch.random.fork_rng(devices=[]):  # a factory's initial weights
        model = copied(named) if isinstance(named, nn.Module) else call_object(path)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"network: '{path}' returned a {type(model).__name__}; return a torch.nn.Module.")
    if weights is not None:
        load_weights(model, weights)
    return model


def named_data(name: str) -> DataSplits:
    """Return the data that `mine.py:data` names, splits or a function that returns them, or those of a registered name.

    Raises:
        ConfigError, DataError: they cannot be loaded, or are none.
    """
    named = load_object(name) if ":" in name else None
    return named if isinstance(named, DataSplits) else load_data(name)
