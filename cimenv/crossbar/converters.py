"""Converters between the digital and the analog side: symmetric, clamped, with a straight-through gradient.

B bits are 2^B - 2 steps: levels -(2^(B-1) - 1) ... 2^(B-1) - 1, zero among them; ties round to even.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step_size(bits: int, bound: float) -> float:
    """Return the distance of two levels of a converter for -bound ... bound."""
    return 2.0 * bound / (2**bits - 2)


def converted(values: Tensor, bits: int | None, bound: float) -> Tensor:
    """Return `values` as a converter gives them: rounded to its levels, then clamped to +-bound.

    Without bits nothing is rounded, but clamped. The gradient passes where nothing is clamped.
    """
    if not bits:
        return values.clamp(-bound, bound)
    step = step_size(bits, bound)
    if not values.requires_grad:
        return values.div(step).round_().mul_(step).clamp_(-bound, bound)
    rounded = values + (torch.round(values.detach() / step) * step - values.detach())
    return rounded.clamp(-bound, bound)
