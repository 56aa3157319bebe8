"""How a weight meets its inputs: a dense product or a convolution, by any module or function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.errors import DataError
from cimenv.crossbar.array import Operator, split_inputs

MappedLayer = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Dense:
    """`y = x W^T + b` with `W` `[out, in]` and vectors `x` `[..., in]`."""

    channels: ClassVar[int] = -1  # the dimension of inputs and outputs that the weight meets
    groups: ClassVar[int] = 1

    def exact(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the exact product."""
        return F.linear(x, weight, bias)

    def matrix_inputs(self, x: Tensor, max_inputs: int | None) -> list[Tensor]:
        """Return the inputs that every tile sees, flattened."""
        return [x[..., part].flatten() for part in split_inputs(x.shape[-1], max_inputs)]


@dataclass(frozen=True)
class Convolution:
    """A convolution of `W` `[out, in/groups, *kernel]` over maps `x` `[n, in, *size]`, in one or two dimensions.

    Attributes:
        stride: a number a dimension.
        padding: zeros on both sides of every dimension, or `same` or `valid`.
        dilation: a number a dimension.
        groups: independent parts of the channels.
    """

    channels: ClassVar[int] = 1
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def dimensions(self) -> int:
        """Return 1 for sequences, 2 for images."""
        return len(self.stride)

    def exact(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the exact convolution."""
        return self._convolve(x, weight, bias, self.groups)

    def of_group(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution of some channels of one group."""
        return self._convolve(x, weight, None, 1)

    def patches(self, x: Tensor, kernel: Sequence[int]) -> Tensor:
        """Return the unfolded input, `[n, in * kernel, positions]`, in the order of the weights."""
        x = F.pad(x, self.padded(kernel))
        size, dilation, stride = tuple(kernel), self.dilation, self.stride
        if self.dimensions == 1:
            x, size, dilation, stride = x.unsqueeze(2), (1, *size), (1, *dilation), (1, *stride)
        return F.unfold(x, size, dilation, 0, stride)

    def padded(self, kernel: Sequence[int]) -> list[int]:
        """Return the padding for `F.pad`, the last dimension first, where convolutions pad both sides as torch does."""
        if self.padding == "valid":
            return [0] * 2 * len(kernel)
        if isinstance(self.padding, str):
            totals = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
            sides = [(total // 2, total - total // 2) for total in totals]
        else:
            sides = [(p, p) for p in self.padding]
        return [side for pair in reversed(sides) for side in pair]

    def checked(self, x: Tensor, weight_shape: Sequence[int]) -> None:
        """Refuse maps whose channels are not those of the weight.

        Raises:
            DataError: another number of channels.
        """
        wanted = weight_shape[1] * self.groups
        if x.dim() != self.dimensions + 2 or x.shape[1] != wanted:
            raise DataError(f"inputs have shape {tuple(x.shape)}; the convolution takes {wanted} channels.")

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        convolve = F.conv2d if self.dimensions == 2 else F.conv1d
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, groups)


Operation = Dense | Convolution


@dataclass(frozen=True)
class Channels(Operator):
    """A convolution of tiles that hold whole channels: `[n, in, ...]` to `[n, out, ...]`."""

    operation: Convolution
    kernel: tuple[int, ...]

    outputs = 1

    def check(self, inputs: Tensor, width: int) -> None:
        """Refuse maps whose channels are not those of the matrix."""
        if inputs.shape[1] * math.prod(self.kernel) != width:
            raise DataError(f"inputs have {inputs.shape[1]} channels; the matrix takes {width} inputs.")

    def part(self, inputs: Tensor, which: slice) -> Tensor:
        """Return the channels of one tile."""
        size = math.prod(self.kernel)
        return inputs[:, which.start // size : which.stop // size]

    def product(self, u: Tensor, w: Tensor) -> Tensor:
        """Return the convolution with every row of `w`."""
        return self.operation.of_group(u, w.unflatten(1, (-1, *self.kernel)))


class Patches(Operator):
    """Unfolded patches `[n, in, positions]`, giving `[n, out, positions]`."""

    outputs = 1

    def check(self, inputs: Tensor, width: int) -> None:
        """Patches fit by construction."""

    def part(self, inputs: Tensor, which: slice) -> Tensor:
        """Return the rows of one tile."""
        return inputs[:, which]

    def product(self, u: Tensor, w: Tensor) -> Tensor:
        """Return the products with every row of `w`."""
        return w @ u


def operation_of(layer: MappedLayer) -> Operation:
    """Return how a layer of torch meets its inputs, after `layer_inputs` has padded them."""
    if isinstance(layer, nn.Linear):
        return Dense()
    padding = layer.padding if layer.padding_mode == "zeros" else (0,) * len(layer.stride)
    return Convolution(layer.stride, padding, layer.dilation, layer.groups)


def layer_inputs(layer: MappedLayer, x: Tensor) -> Tensor:
    """Return the inputs of a layer's product, padded where its padding is not of zeros."""
    if isinstance(layer, nn.Linear) or layer.padding_mode == "zeros":
        return x
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)


def convolution_matrix_inputs(
    operation: Convolution, x: Tensor, kernel: Sequence[int], max_inputs: int | None
) -> list[Tensor]:
    """Return the unfolded inputs that every tile of a convolution sees, flattened; groups share their tiles' ranges."""
    columns = operation.patches(x, kernel)
    columns = columns.reshape(len(columns), operation.groups, -1, columns.shape[-1])
    return [columns[:, :, part].flatten() for part in split_inputs(columns.shape[2], max_inputs)]


def positions(operation: Operation, y: Tensor) -> int:
    """Return how many products of a vector with the matrix gave an output."""
    return y.numel() // max(y.shape[operation.channels], 1)


def out_size(operation: Convolution, x: Tensor, weight_shape: Sequence[int]) -> torch.Size:
    """Return the size of the maps that a convolution gives."""
    part = x[:1, : weight_shape[1]].to("meta")
    return operation.of_group(part, torch.empty(1, *weight_shape[1:], device="meta")).shape[2:]
