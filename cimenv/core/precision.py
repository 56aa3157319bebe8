"""Precision of torch's products: single, or bfloat16 where the processor multiplies it faster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def arithmetic(precision: Precision, device: str = "cpu") -> AbstractContextManager[None]:
    """Compute convolutions and matrix products of a block in a precision; weights stay in single.

    In bfloat16 feature maps and logits are rounded to 8 significant bits too, which moves accuracies by a few tenths of
    a point (two classes may tie). Processors with AMX or AVX-512 BF16 units and GPUs are several times faster in it,
    others slower. `float32` undoes an outer `bfloat16`; on a GPU its convolutions take torch's setting,
    `torch.backends.cudnn.allow_tf32`: ten significant bits by default, which moves a chip of 2,000 images by one.
    """
    # Without the cache of cast weights: it would outlive the optimiser's steps.
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)
