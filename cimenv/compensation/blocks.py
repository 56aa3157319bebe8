"""The compensation blocks: slimmable modules, identity at initialisation, exact digital weights.

Inputs and outputs of a site are `x` and `y`: `[n, c, h, w]` or `[n, c, l]` behind a convolution, `[..., c]` behind a
matrix: a block of a sequence acts on every step or token by itself.
Slimmable: a smaller size uses the first filters (ranks) of the largest one. Images in channels-last layout are computed
as vectors, position by position, in a plain matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.compensation.block import Block
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.sites import Site


def mix(weight: Tensor, z: Tensor, added: Tensor) -> Tensor:
    """Return `added` plus a 1x1 convolution over the channels of `z` `[n, c, positions]`.

    A batched product is the fastest form on CPUs, and two of them beat one on concatenated maps.
    """
    return torch.baddbmm(added, weight.expand(len(z), -1, -1), z)


def pooled(x: Tensor, y: Tensor) -> Tensor:
    """Return a convolution's input `x`, pooled to the size of its output `y`."""
    if x.shape[2:] == y.shape[2:]:
        return x
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if y.dim() == 4 else F.adaptive_avg_pool1d
    return pool(x, y.shape[2:])


def channels_last(y: Tensor) -> bool:
    """Return whether images `[n, c, h, w]` lie position by position in memory, and not channel by channel."""
    return y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()


class AffineBlock(Block):
    """Per-channel scale and shift, refitted over chips; it has one size, and no MACs: the periphery has them anyway."""

    kind, sized = "affine", False

    def __init__(self, site: Site, width: int) -> None:
        super().__init__(site, width)
        self.scale = nn.Parameter(torch.ones(site.out_channels))
        self.shift = nn.Parameter(torch.zeros(site.out_channels))

    @classmethod
    def weights(cls, site: Site, width: int) -> int:
        """Return a scale and a shift per channel."""
        del width
        return 2 * site.out_channels

    @classmethod
    def macs(cls, site: Site, width: int) -> int:
        """Return 0."""
        del site, width
        return 0

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return `scale * y + shift`; `x` and `width` are not used."""
        del x, width
        shape = (-1, *[1] * (y.dim() - 2)) if self.conv else (-1,)
        return torch.addcmul(self.shift.view(shape).to(y.dtype), y, self.scale.view(shape).to(y.dtype))


class ChannelBlock(Block):
    """A block that mixes the channels of a site's input and output; it takes them in the layout they come in."""

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated output, with the first `width` filters (ranks)."""
        if not self.conv:
            return self.of_vectors(x, y, width)
        x = pooled(x, y)
        if channels_last(y):
            return self.of_vectors(x.movedim(1, -1), y.movedim(1, -1), width).movedim(-1, 1)
        return self.of_maps(x.flatten(2), y.flatten(2), width).view_as(y)

    def of_vectors(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated `y` `[..., c]`: here a plain matrix product beats a batched one."""
        raise NotImplementedError

    def of_maps(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated `y` `[n, c, positions]`."""
        raise NotImplementedError


class FullBlock(ChannelBlock):
    """Generator and compensator; size: generator filters / output channels.

    `g = relu(G [pool(x); y] + b_G)`, `y' = C [y; g] + b_C`; C starts as the identity on y and zero on g.

    Source: CorrectNet (DATE 2023).
    """

    kind = "full"

    def __init__(self, site: Site, width: int) -> None:
        super().__init__(site, width)
        c_in, c_out = site.in_channels, site.out_channels
        self.generator_weight = nn.Parameter(_kaiming(width, c_in + c_out))
        self.generator_bias = nn.Parameter(torch.zeros(width))
        self.compensator_weight = nn.Parameter(torch.cat([torch.eye(c_out), torch.zeros(c_out, width)], 1))
        self.compensator_bias = nn.Parameter(torch.zeros(c_out))

    @classmethod
    def weights(cls, site: Site, width: int) -> int:
        """Return m(c_in + c_out) + c_out(c_out + m) + m + c_out."""
        return cls.macs(site, width) + width + site.out_channels

    @classmethod
    def macs(cls, site: Site, width: int) -> int:
        """Return m(c_in + c_out) + c_out(c_out + m)."""
        c_in, c_out = site.in_channels, site.out_channels
        return width * (c_in + c_out) + c_out * (c_out + width)

    def of_vectors(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated vectors."""
        compensator = self.compensator_weight[:, : y.shape[-1] + width]
        hidden = F.linear(torch.cat([x, y], -1), self.generator_weight[:width], self.generator_bias[:width]).relu()
        return F.linear(torch.cat([y, hidden], -1), compensator, self.compensator_bias)

    def of_maps(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated maps."""
        c_in, c_out = x.shape[1], y.shape[1]
        generator, bias = self.generator_weight[:width], self.generator_bias[:width]
        compensator = self.compensator_weight[:, : c_out + width]
        hidden = mix(generator[:, :c_in], x, mix(generator[:, c_in:], y, bias[:, None])).relu()
        kept = mix(compensator[:, :c_out], y, self.compensator_bias[:, None])
        return mix(compensator[:, c_out:], hidden, kept)


class LowRankBlock(ChannelBlock):
    """Low-rank residual, `y' = y + B relu(A [pool(x); y] + a) + b`, B starting at 0; size: rank / output channels."""

    kind = "low_rank"

    def __init__(self, site: Site, width: int) -> None:
        super().__init__(site, width)
        c_in, c_out = site.in_channels, site.out_channels
        self.down_weight = nn.Parameter(_kaiming(width, c_in + c_out))
        self.down_bias = nn.Parameter(torch.zeros(width))
        self.up_weight = nn.Parameter(torch.zeros(c_out, width))
        self.up_bias = nn.Parameter(torch.zeros(c_out))

    @classmethod
    def weights(cls, site: Site, width: int) -> int:
        """Return r(c_in + c_out) + c_out r + r + c_out."""
        return cls.macs(site, width) + width + site.out_channels

    @classmethod
    def macs(cls, site: Site, width: int) -> int:
        """Return r(c_in + c_out) + c_out r."""
        return width * (site.in_channels + site.out_channels) + site.out_channels * width

    def of_vectors(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated vectors."""
        down = F.linear(torch.cat([x, y], -1), self.down_weight[:width], self.down_bias[:width])
        return y + F.linear(down.relu(), self.up_weight[:, :width], self.up_bias)

    def of_maps(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated maps."""
        c_in = x.shape[1]
        down, up = self.down_weight[:width], self.up_weight[:, :width]
        hidden = mix(down[:, :c_in], x, mix(down[:, c_in:], y, self.down_bias[:width, None])).relu()
        return mix(up, hidden, y + self.up_bias[:, None])


class Digital(Block):
    """Output channels that stay off the crossbar, exact; size: their share.

    A size under 1 protects the first channels of an order; without one those with the largest weight norm, whose
    deviations are largest under multiplicative variation.
    """

    kind, on_weights = "digital", True
    largest_size: ClassVar[float] = 1.0

    @classmethod
    def weights(cls, site: Site, width: int) -> int:
        """Return the weights kept off the crossbar."""
        return width * site.fan_in

    @classmethod
    def macs(cls, site: Site, width: int) -> int:
        """Return the products with them."""
        return width * site.fan_in

    @classmethod
    def weight(
        cls, size: float, nominal: Tensor, programmed: ProgrammedWeight, order: Tensor | None = None
    ) -> ProgrammedWeight:
        """Return the chip's weight with exact channels; see `Block.weight`."""
        if size >= 1:
            return nominal
        keep = math.ceil(size * len(nominal) - 1e-9)
        if order is None:
            order = nominal.detach().flatten(1).norm(dim=1).topk(keep).indices
        chosen = order[:keep]
        if isinstance(programmed, AnalogWeight):
            return programmed.protecting(chosen, nominal)
        return programmed.index_copy(0, chosen, nominal[chosen])


def _kaiming(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns) * math.sqrt(2.0 / columns)
