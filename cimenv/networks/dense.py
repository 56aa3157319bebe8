"""A perceptron: dense layers alone."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from cimenv.core.errors import ConfigError


class Perceptron(nn.Module):
    """Dense layers with ReLU between them, on the flattened image.

    Args:
        widths: of the input, of every hidden layer, and of the output.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        if min(widths) < 1:
            raise ConfigError(f"widths: got {widths}; give at least 1 everywhere.")
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, c, h, w]`."""
        x = images.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def mlp4(
    classes: int = 10, in_channels: int = 1, size: int = 28, hidden: tuple[int, ...] | list[int] = (128, 96, 64)
) -> Perceptron:
    """A perceptron of four matrices: 119,000 parameters with the defaults."""
    return Perceptron((in_channels * size**2, *hidden, classes))
