"""Precision of torch's products: single, or bfloat16 where the processor multiplies it faster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def arithmetic(precision: Precision, device: str = "cpu") -> AbstractContextManager[None]:
    """Compute convolutions and matrix products within in a precision; weights and sums stay in single.

    Processors with AMX or AVX-512 BF16 units and GPUs are several times faster in bfloat16, others slower; its 8
    significant bits move accuracies by a few tenths of a point. `float32` undoes an outer `bfloat16`.
    """
    # Without the cache of cast weights: it would outlive the optimiser's steps.
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)
