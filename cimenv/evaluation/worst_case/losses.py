"""What an attack minimises, per image: `logits` `[n, classes]`, `labels` `[n]` -> `[n]`.

Sources: margin F: A-TRICE (arXiv 2312.06137); difference of logits ratio: Croce and Hein (arXiv 2003.01690).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LossName = Literal["margin", "ce", "dlr", "count"]
COUNT_SLOPE = 3.0


def true_and_other(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true class's logit and the largest of the others, `[n]` each."""
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return true, others.amax(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return F = max(O_t - max_{i != t} O_i, 0): 0 for a misclassified image."""
    true, other = true_and_other(logits, labels)
    return (true - other).clamp_min(0)


def negative_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the cross-entropy."""
    return -F.cross_entropy(logits, labels, reduction="none")


def logit_difference_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (O_t - max_{i != t} O_i) / (O_(1) - O_(3)): the margin, free of the logits' scale.

    With two classes the denominator is O_(1) - O_(2).
    """
    true, other = true_and_other(logits, labels)
    ordered = logits.topk(min(3, logits.shape[1]), dim=1).values
    return (true - other) / (ordered[:, 0] - ordered[:, -1]).clamp_min(1e-12)


def smoothed_count(logits: Tensor, labels: Tensor) -> Tensor:
    """Return sigmoid(3 m / mean|m|) of the margins m: a smooth count of correct images.

    Images that are lost already, or far from being lost, hardly weigh: the gradient goes to those that can be turned.
    The scale is detached, so that it only sets which images count as near.
    """
    true, other = true_and_other(logits, labels)
    gap = true - other
    return torch.sigmoid(gap * (COUNT_SLOPE / gap.detach().abs().mean().clamp_min(1e-12)))


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "margin": margin,
    "ce": negative_cross_entropy,
    "dlr": logit_difference_ratio,
    "count": smoothed_count,
}
