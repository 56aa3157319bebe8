"""Where torch computes."""

from __future__ import annotations

import torch

from cimenv.core.errors import ConfigError, brief


def checked_device(device: str, here: bool = True) -> str:
    """Return a device's name.

    Args:
        device: its name.
        here: whether this process computes on it.

    Raises:
        ConfigError: it is neither `cpu` nor `cuda`, or torch finds no GPU here.
    """
    known = isinstance(device, str) and device in ("cpu", "cuda")
    if not known or (here and device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"device: got {brief(device)}; use cpu, or cuda where torch finds a GPU.")
    return device
