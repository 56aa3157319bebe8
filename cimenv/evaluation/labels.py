"""How many images are classified correctly."""

from __future__ import annotations

from torch import Tensor


def count_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many rows of `logits [n, classes]` are largest at their label `[n]`, on their device.

    A row with not-a-number in it is wrong: argmax would take it for that class.
    """
    right = logits.argmax(-1) == labels
    return (right & ~logits.isnan().any(-1)).sum()
