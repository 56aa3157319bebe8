"""Which network it is: what a hash of its weights does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.config import canonical, digest
from cimenv.core.store import Store
from cimenv.crossbar.modes import evaluating
from cimenv.networks import BACKBONES
from cimenv.tasks.stages.weights import record_of, tensors_of

BACKBONE_VERSIONS: dict[str, int] = {}  # of built-in backbones whose outputs changed for the same weights; default 1
PROBE_IMAGES = 8
SAME = 1e-4  # of the norm of clean outputs


@dataclass(frozen=True)
class Identity:
    """A network, weights aside.

    Attributes:
        name: of a built-in backbone, of a factory, or of a user's class.
        arguments: of the backbone.
        version: of a built-in backbone.
        variant: number of the network among those of a user that share name, weights and data, but not outputs.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    variant: int = 0

    @staticmethod
    def of_backbone(name: str, arguments: Mapping[str, Any], variant: int = 0) -> Identity:
        """Return the identity of a backbone that a task names."""
        return Identity(name, dict(arguments), BACKBONE_VERSIONS.get(name, 1), variant)


def is_own(backbone: str) -> bool:
    """Return whether a backbone's name is that of a user's factory, `package.module:factory` or a registered one."""
    return not BACKBONES.is_built_in(backbone)


def arrays_digest(identity: Identity, arrays: Mapping[str, Tensor]) -> str:
    """Return a hash of a network's identity and of named tensors."""
    tensors = {name: value for name, value in arrays.items() if isinstance(value, Tensor)}  # a module may keep others
    parts = [f"{name}:{digest(value.contiguous().cpu().numpy().tobytes())}" for name, value in tensors.items()]
    return digest("\n".join([canonical(asdict(identity)), *sorted(parts)]))


def clean_outputs(model: nn.Module, images: Tensor) -> Tensor:
    """Return a network's outputs in evaluation, `[n, classes]`; its modes are put back."""
    with torch.no_grad(), evaluating(model):
        outputs = model(images)
    assert isinstance(outputs, Tensor)
    return outputs.detach()


def same_outputs(outputs: Tensor, kept: Tensor) -> bool:
    """Return whether two networks gave the same outputs, within 1e-4 of their norm."""
    return outputs.shape == kept.shape and float((outputs - kept).norm()) <= SAME * float(kept.norm())


def identity_of(store: Store, name: str, model: nn.Module, images: Tensor, data: str) -> Identity:
    """Return the identity of a user's own network: its code may have changed where its weights and class did not.

    Helper functions, globals and class attributes count that no hash can see. So clean outputs on fixed inputs are kept
    beside the weights' hash: a network with others is another variant.

    Args:
        store: keeps the outputs.
        name: of the network's class.
        model: the network, trained.
        images: the fixed inputs.
        data: digest of the data.
    """
    outputs, variant = clean_outputs(model, images), 0
    while True:
        identity = Identity(name, variant=variant)
        key = {
            "stage": "own outputs",
            "version": 1,
            "weights": arrays_digest(identity, model.state_dict()),
            "data": data,
        }
        record = store.once(canonical(key), lambda: record_of({"outputs": outputs}), "the clean outputs of a network")
        if same_outputs(outputs, tensors_of(record)["outputs"]):
            return identity
        variant += 1
