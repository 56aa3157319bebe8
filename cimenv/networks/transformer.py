"""A small vision transformer (Dosovitskiy et al., 2021), every projection a layer of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other; its products stay digital."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.output):
            layer.site_type = "attention"  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed tokens `[n, tokens, width]`."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and two dense layers, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens `[n, tokens, width]` after this layer."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Patches as tokens with learned positions, encoder layers, the mean of the tokens, one layer."""

    def __init__(
        self, classes: int, in_channels: int, size: int, patch: int, width: int, depth: int, heads: int, inner: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads, inner) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, c, h, w]`."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.layers(tokens)).mean(1))


def vit(
    classes: int = 10,
    in_channels: int = 1,
    size: int = 28,
    patch: int = 4,
    width: int = 64,
    depth: int = 4,
    heads: int = 4,
    inner: int = 128,
) -> VisionTransformer:
    """A vision transformer of four layers: 26 matrices, 139,000 parameters with the defaults."""
    return VisionTransformer(classes, in_channels, size, patch, width, depth, heads, inner)
