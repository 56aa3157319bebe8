"""Modes and gradient flags of a module's parts: changed for a while, and put back part by part."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Run `model` in eval mode; afterwards every part of it is in the mode it was in.

    Overlapping uses of one model from several threads share the first one's record; the last one puts the modes back.
    """
    with _LOCK:
        use = _OPEN.setdefault(model, _Use(modes(model)))
        use.count += 1
    try:
        if any(use.modes.values()):  # a module's own `train` may do more than set a flag, so call it only where it must
            model.eval()
        yield model
    finally:
        with _LOCK:
            use.count -= 1
            if not use.count:
                _OPEN.pop(model, None)
                restore(use.modes)


@contextmanager
def learning(module: nn.Module, wanted: bool = True) -> Iterator[nn.Module]:
    """Let every parameter of `module` learn, or none; afterwards each may do what it might before."""
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield module.requires_grad_(wanted)
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)


def modes(model: nn.Module) -> dict[nn.Module, bool]:
    """Return whether each part of a model is in training mode, outer parts first."""
    return {module: module.training for module in model.modules()}


def restore(before: Mapping[M, bool]) -> None:
    """Put every module into the mode it was in, by its own `train`, which may do more than set a flag."""
    for module, training in before.items():
        if module.training != training:
            module.train(training)
    for module, training in before.items():  # of modules whose own `train` does not do as it is told
        module.training = training


class _Use:
    """The modes to put back, and how many uses of the model are open."""

    def __init__(self, modes: dict[nn.Module, bool]) -> None:
        self.modes, self.count = modes, 0


_LOCK = threading.Lock()
_OPEN: dict[nn.Module, _Use] = {}
