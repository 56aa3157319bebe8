"""Where torch computes."""

from __future__ import annotations

import torch

from cimenv.core.errors import ConfigError


def checked_device(device: str) -> str:
    """Return a device's name.

    Raises:
        ConfigError: it is neither `cpu` nor `cuda`, or torch finds no GPU.
    """
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(f"device: got {device!r}; use cpu, or cuda where torch finds a GPU.")
    return device
