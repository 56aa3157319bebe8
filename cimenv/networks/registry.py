"""Backbones by name, or a user's own by `package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cimenv.core.config import called
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.registry import Registry

MOST_WEIGHTS = 2**30  # of a backbone by name

BACKBONES: Registry[Callable[..., nn.Module]] = Registry(
    "backbone",
    Callable,
    {
        "lenet5": "cimenv.networks.lenet:lenet5",
        "toy_cnn": "cimenv.networks.lenet:toy_cnn",
        "mlp4": "cimenv.networks.dense:mlp4",
        "resnet8": "cimenv.networks.resnet:resnet8",
        "resnet18": "cimenv.networks.resnet:resnet18",
        "resnet20": "cimenv.networks.resnet:resnet20",
        "vgg16": "cimenv.networks.vgg:VGG16",
        "lstm_rows": "cimenv.networks.recurrent:lstm_rows",
        "vit": "cimenv.networks.transformer:vit",
    },
    tag="name",
    objects=True,
)


def build_backbone(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a backbone with freshly initialised weights (by torch's current generator).

    Args:
        name: a name in `BACKBONES`, or `package.module:factory`.
        arguments: keyword arguments of the factory.

    Raises:
        UnknownNameError: no such backbone.
        ConfigError: the factory refuses the arguments, fails, or returns no module.
    """
    if BACKBONES.is_built_in(name):
        model = _built_in(name, arguments or {})
    else:
        model = called(BACKBONES.find(name), name, arguments, "backbone_args")
    if not isinstance(model, nn.Module):
        raise ConfigError(f"backbone: '{name}' returned a {type(model).__name__}; return a torch.nn.Module.")
    return model


def _built_in(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a built-in backbone, once it is known on the meta device that its weights fit into memory."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            size = sum(parameter.numel() for parameter in BACKBONES[name](**arguments).parameters())
        if size > MOST_WEIGHTS:
            raise ConfigError(f"backbone_args: '{name}' would have {size:,} weights; take at most {MOST_WEIGHTS:,}.")
        return BACKBONES[name](**arguments)
    except CimenvError:
        raise
    except Exception as error:  # sizes of another type, 0, negative
        raise ConfigError(f"backbone_args: '{name}' refuses them ({error}); correct its arguments.") from None


def without_weights(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a backbone whose weights need no memory, to be given some; a user's own is built as it is.

    A user's module may hold tensors besides its parameters, which would lose their values too.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta" if BACKBONES.is_built_in(name) else "cpu"):
        return build_backbone(name, arguments)
