"""Converters between the digital and the analog side: symmetric, clamped, with a straight-through gradient.

B bits are 2^B - 2 steps: levels -(2^(B-1) - 1) ... 2^(B-1) - 1, zero among them; ties round to even.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from cimenv.core.registry import Registry


def steps(bits: int) -> int:
    """Return the number of steps from the lowest to the highest level."""
    return int(2**bits - 2)


def step_size(bits: int, bound: float) -> float:
    """Return the distance of two levels of a converter for -bound ... bound."""
    return 2.0 * bound / steps(bits)


class Converter:
    """A kind of converter: its levels between -bound and bound. One of one's own is a subclass with `levels`."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # bumped when its levels change

    @classmethod
    def levels(cls, values: Tensor, bits: int | None, bound: float) -> Tensor:
        """Return `values` at the nearest levels, at most `bound` in size; without bits nothing is rounded."""
        raise NotImplementedError

    @classmethod
    def convert(cls, values: Tensor, bits: int | None, bound: float) -> Tensor:
        """Return `values` as a converter gives them; the gradient passes up to the bound and at it, not beyond."""
        if not values.requires_grad:
            return cls.levels(values, bits, bound)
        straight = _StraightThrough.apply(values, cls, bits, bound)
        assert isinstance(straight, Tensor)
        return straight


class Uniform(Converter):
    """Equally spaced levels, zero among them; what lies between two is rounded, ties to even."""

    kind = "uniform"

    @classmethod
    def levels(cls, values: Tensor, bits: int | None, bound: float) -> Tensor:
        """Return `values` rounded to levels, then clamped to +-bound."""
        if not bits:
            return values.clamp(-bound, bound)
        step = step_size(bits, bound)
        return values.div(step).round_().mul_(step).clamp_(-bound, bound)


CONVERTERS: Registry[type[Converter]] = Registry("converter", Converter, {"uniform": Uniform})


class _StraightThrough(torch.autograd.Function):
    """Convert; the gradient passes where nothing is clamped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kind: type[Converter], bits: int | None, bound: float) -> Tensor:
        ctx.save_for_backward(values.abs() > bound)
        return kind.levels(values.detach(), bits, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (cut,) = ctx.saved_tensors
        return gradient.masked_fill(cut, 0.0), None, None, None


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
