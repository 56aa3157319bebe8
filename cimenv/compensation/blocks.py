"""The compensation blocks: slimmable modules, identity at initialisation, exact digital weights.

Inputs and outputs of a site are `x` and `y`: `[n, c, h, w]` or `[n, c, l]` behind a convolution, `[..., c]` behind a
matrix: a block of a sequence acts on every step or token by itself.
Slimmable: a smaller size uses the first filters (ranks) of the largest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.crossbar.mapping import Site


def mix(weight: Tensor, z: Tensor, added: Tensor) -> Tensor:
    """Return `added` plus a 1x1 convolution over the channels of `z` `[n, c, positions]`.

    A batched product is the fastest form on CPUs, and two of them beat one on concatenated maps.
    """
    return torch.baddbmm(added, weight.expand(len(z), -1, -1), z)


def channel_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return a convolution's input and output as `[n, channels, positions]`, the input pooled to the output's size."""
    if x.shape[2:] != y.shape[2:]:
        pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if y.dim() == 4 else F.adaptive_avg_pool1d
        x = pool(x, y.shape[2:])
    return x.flatten(2), y.flatten(2)


class AffineBlock(nn.Module):
    """Per-channel scale and shift, refitted over chips."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.conv = site.type == "conv"
        self.scale = nn.Parameter(torch.ones(site.out_channels))
        self.shift = nn.Parameter(torch.zeros(site.out_channels))

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return `scale * y + shift`; `x` and `width` are not used."""
        del x, width
        shape = (-1, *[1] * (y.dim() - 2)) if self.conv else (-1,)
        return torch.addcmul(self.shift.view(shape), y, self.scale.view(shape))


class FullBlock(nn.Module):
    """Generator and compensator (CorrectNet, DATE 2023; physics as the design states, section 3).

    `g = relu(G [pool(x); y] + b_G)`, `y' = C [y; g] + b_C`; C starts as the identity on y and zero on g.
    """

    def __init__(self, site: Site, width: int) -> None:
        super().__init__()
        self.conv, c_in, c_out = site.type == "conv", site.in_channels, site.out_channels
        self.generator_weight = nn.Parameter(_kaiming(width, c_in + c_out))
        self.generator_bias = nn.Parameter(torch.zeros(width))
        self.compensator_weight = nn.Parameter(torch.cat([torch.eye(c_out), torch.zeros(c_out, width)], 1))
        self.compensator_bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated output, with the first `width` filters of the generator."""
        generator, bias = self.generator_weight[:width], self.generator_bias[:width]
        compensator = self.compensator_weight[:, : self.compensator_weight.shape[0] + width]
        if not self.conv:  # vectors: a plain matrix product beats a batched one
            hidden = F.linear(torch.cat([x, y], -1), generator, bias).relu()
            return F.linear(torch.cat([y, hidden], -1), compensator, self.compensator_bias)
        xs, ys = channel_maps(x, y)
        c_in, c_out = xs.shape[1], ys.shape[1]
        hidden = mix(generator[:, :c_in], xs, mix(generator[:, c_in:], ys, bias[:, None])).relu()
        kept = mix(compensator[:, :c_out], ys, self.compensator_bias[:, None])
        return mix(compensator[:, c_out:], hidden, kept).view_as(y)


class LowRankBlock(nn.Module):
    """Low-rank residual: `y' = y + B relu(A [pool(x); y] + a) + b`, B starting at zero."""

    def __init__(self, site: Site, width: int) -> None:
        super().__init__()
        self.conv, c_in, c_out = site.type == "conv", site.in_channels, site.out_channels
        self.down_weight = nn.Parameter(_kaiming(width, c_in + c_out))
        self.down_bias = nn.Parameter(torch.zeros(width))
        self.up_weight = nn.Parameter(torch.zeros(c_out, width))
        self.up_bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated output, with the first `width` ranks."""
        down, up = self.down_weight[:width], self.up_weight[:, :width]
        if not self.conv:
            hidden = F.linear(torch.cat([x, y], -1), down, self.down_bias[:width]).relu()
            return y + F.linear(hidden, up, self.up_bias)
        xs, ys = channel_maps(x, y)
        c_in = xs.shape[1]
        hidden = mix(down[:, :c_in], xs, mix(down[:, c_in:], ys, self.down_bias[:width, None])).relu()
        return mix(up, hidden, ys + self.up_bias[:, None]).view_as(y)


def _kaiming(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns) * math.sqrt(2.0 / columns)
