"""Backbones by name, or a user's own by `package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cimenv.core.config import load_object
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.networks.dense import mlp4
from cimenv.networks.lenet import lenet5, toy_cnn
from cimenv.networks.recurrent import lstm_rows
from cimenv.networks.resnet import resnet8, resnet18, resnet20
from cimenv.networks.transformer import vit
from cimenv.networks.vgg import VGG16

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "lenet5": lenet5,
    "toy_cnn": toy_cnn,
    "mlp4": mlp4,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "vgg16": VGG16,
    "lstm_rows": lstm_rows,
    "vit": vit,
}


def build_backbone(name: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a backbone with freshly initialised weights (by torch's current generator).

    Args:
        name: a name in `BACKBONES`, or `package.module:factory`.
        arguments: keyword arguments of the factory.

    Raises:
        UnknownNameError: no such backbone.
        ConfigError: the factory refuses the arguments or returns no module.
    """
    if ":" in name:
        factory = load_object(name)
    elif name in BACKBONES:
        factory = BACKBONES[name]
    else:
        raise UnknownNameError("backbone", name, BACKBONES)
    try:
        model = factory(**(arguments or {}))
    except TypeError as error:
        raise ConfigError(f"backbone_args: '{name}' refuses them ({error}); correct its arguments.") from None
    if not isinstance(model, nn.Module):
        raise ConfigError(f"backbone: '{name}' returned a {type(model).__name__}; return a torch.nn.Module.")
    return model
