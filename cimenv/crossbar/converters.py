"""Converters between the digital and the analog side: symmetric, clamped, with a straight-through gradient.

B bits are 2^B - 2 steps: levels -(2^(B-1) - 1) ... 2^(B-1) - 1, zero among them; ties round to even.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def steps(bits: int) -> int:
    """Return the number of steps from the lowest to the highest level."""
    return int(2**bits - 2)


def step_size(bits: int, bound: float) -> float:
    """Return the distance of two levels of a converter for -bound ... bound."""
    return 2.0 * bound / steps(bits)


def converted(values: Tensor, bits: int | None, bound: float) -> Tensor:
    """Return `values` as a converter gives them: rounded to its levels, then clamped to +-bound.

    Without bits nothing is rounded, but clamped. The gradient passes up to the bound and at it, not beyond.
    """
    if values.requires_grad:
        levels = _StraightThrough.apply(values, bits, bound)
        assert isinstance(levels, Tensor)
        return levels
    if not bits:
        return values.clamp(-bound, bound)
    step = step_size(bits, bound)
    return values.div(step).round_().mul_(step).clamp_(-bound, bound)


class _StraightThrough(torch.autograd.Function):
    """Convert; the gradient passes where nothing is clamped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bits: int | None, bound: float) -> Tensor:
        ctx.save_for_backward(values.abs() > bound)
        return converted(values.detach(), bits, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (cut,) = ctx.saved_tensors
        return gradient.masked_fill(cut, 0.0), None, None


class _InRange(torch.autograd.Function):
    """Clamp to a learned range; its gradient pulls the range towards fewer clipped inputs where that lowers the loss.

    d alpha = alpha * (sum over x >= alpha of min(d, 0) - sum over x <= -alpha of max(d, 0)); Rasch et al. (2023).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha)
        return x.clamp(-alpha, alpha)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, alpha = ctx.saved_tensors
        above, below = x >= alpha, x <= -alpha
        up = torch.where(above, gradient, 0.0).clamp_max_(0.0).sum()
        pull = up - torch.where(below, gradient, 0.0).clamp_min_(0.0).sum()
        return gradient.masked_fill(above | below, 0.0), (alpha * pull).reshape(alpha.shape)


def in_learned_range(x: Tensor, alpha: Tensor) -> Tensor:
    """Return `x` clamped to +-alpha, with the gradient of the hardware-aware training for alpha (one value)."""
    clamped = _InRange.apply(x, alpha)
    assert isinstance(clamped, Tensor)
    return clamped
