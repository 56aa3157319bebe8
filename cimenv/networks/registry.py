"""Backbones by name, or a user's own by `package.module:factory`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from cimenv.core.config import call_object
from cimenv.core.errors import CimenvError, ConfigError, known_name
from cimenv.networks.dense import mlp4
from cimenv.networks.lenet import lenet5, toy_cnn
from cimenv.networks.recurrent import lstm_rows
from cimenv.networks.resnet import resnet8, resnet18, resnet20
from cimenv.networks.transformer import vit
from cimenv.networks.vgg import VGG16

MOST_WEIGHTS = 2**30  # of a backbone by name

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
        ConfigError: the factory refuses the arguments, fails, or returns no module.
    """
    if isinstance(name, str) and ":" in name:
        model = call_object(name, arguments, "backbone_args")
    else:
        model = _registered(known_name("backbone", name, BACKBONES), arguments or {})
    if not isinstance(model, nn.Module):
        raise ConfigError(f"backbone: '{name}' returned a {type(model).__name__}; return a torch.nn.Module.")
    return model


def _registered(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a backbone of `BACKBONES` once it is known, without memory for them, that its weights can be held."""
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
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if ":" in name else "meta"):
        return build_backbone(name, arguments)
