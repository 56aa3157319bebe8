"""A weight on the crossbar, exact or analog, and a layer's output with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cimenv.core.errors import ConfigError
from cimenv.crossbar.array import AnalogArray, program_array
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.device import before_ageing, checked_time, drift_gain
from cimenv.crossbar.operations import (
    Channels,
    Convolution,
    Dense,
    MappedLayer,
    Operation,
    Patches,
    layer_inputs,
    operation_of,
    out_size,
)


@dataclass(frozen=True)
class AnalogWeight:
    """A layer's weight on analog tiles: products run through converters, IR drop and noise.

    Attributes:
        arrays: one a group of the convolution.
        input_range: alpha of every tile, `[tiles]`, or one for all, `[1]`.
        shape: of the weight, `[out, in/groups, *kernel]` or `[out, in]`.
        read: draws read and output noise, unless a product brings its own generator.
        exact: output channels that are kept digital, and the layer's nominal weight; None for none.
        counts: of what the converters cut off, `[4]`, see `AnalogArray.mvm`; None does not count.
    """

    arrays: tuple[AnalogArray, ...]
    input_range: Tensor
    shape: torch.Size
    read: torch.Generator | None = None
    exact: tuple[Tensor, Tensor] | None = None
    counts: Tensor | None = None

    def protecting(self, channels: Tensor, nominal: Tensor) -> AnalogWeight:
        """Return the same weight with some output channels computed digitally, from the nominal weight."""
        return replace(self, exact=(channels, nominal))

    def to(self, device: torch.device) -> AnalogWeight:
        """Return the same weight on another device."""
        arrays = tuple(array.to(device) for array in self.arrays)
        exact = None if self.exact is None else (self.exact[0].to(device), self.exact[1].to(device))
        return replace(self, arrays=arrays, input_range=self.input_range.to(device), exact=exact)

    def product(
        self, operation: Operation, x: Tensor, bias: Tensor | None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the outputs; the bias is digital.

        Args:
            operation: how inputs meet the weight.
            x: inputs, `[..., in]` or `[n, in, *size]`.
            bias: `[out]`, or what goes with vectors of outputs; None for none.
            generator: draws read and output noise; default `read`.

        Raises:
            DataError: the inputs' channels are not those of the weight.
        """
        draws = generator or self.read
        if isinstance(operation, Dense):
            y = self.arrays[0].mvm(x, self.input_range, draws, counts=self.counts)
        else:
            operation.checked(x, self.shape)
            groups = x.chunk(len(self.arrays), dim=1)
            parts = [
                self._convolved(operation, part, array, draws) for part, array in zip(groups, self.arrays, strict=True)
            ]
            y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if bias is not None:
            y = y + (bias if operation.channels == -1 else bias.reshape(-1, *[1] * (y.ndim - 2)))
        if self.exact is not None:
            chosen, nominal = self.exact
            exact = operation.exact(x, nominal, bias)
            y = y.index_copy(operation.channels, chosen, exact.index_select(operation.channels, chosen))
        return y

    def _convolved(
        self, operation: Convolution, x: Tensor, array: AnalogArray, generator: torch.Generator | None
    ) -> Tensor:
        kernel = tuple(self.shape[2:])
        whole = all(tile.inputs.stop % math.prod(kernel) == 0 for tile in array.tiles)  # tiles hold whole channels
        if whole and not array.config.input_noise:  # which is drawn anew for every patch
            return array.mvm(x, self.input_range, generator, Channels(operation, kernel), self.counts)
        size = out_size(operation, x, self.shape)
        y = array.mvm(operation.patches(x, kernel), self.input_range, generator, Patches(), self.counts)
        return y.reshape(len(x), -1, *size)


ProgrammedWeight = Tensor | AnalogWeight


def program_weight(
    weight: Tensor,
    config: CrossbarConfig,
    generator: torch.Generator,
    *,
    groups: int = 1,
    input_range: Tensor | None = None,
    t_s: float = 0.0,
    read: torch.Generator | None = None,
) -> ProgrammedWeight:
    """Program a layer's weight on one chip; gradients reach the nominal weight straight through.

    Args:
        weight: nominal, `[out, in/groups, ...]`.
        config: the crossbar.
        generator: draws what is fixed per chip.
        groups: of a convolution.
        input_range: alpha of every tile or of all; needed for an analog crossbar.
        t_s: seconds after programming.
        read: draws what is new at every reading; default `generator`.

    Returns:
        Noisy weights of the same shape, or analog tiles where `config.analog`.

    Raises:
        ConfigError: an analog crossbar without an input range, or `t_s` is negative.
    """
    checked_time(t_s)
    if not config.analog:
        start = generator.get_state()
        noisy = config.device.program(weight, generator, t_s, read)
        if not (config.drift_compensation and config.device.ages and t_s > 0):
            return noisy
        fresh = before_ageing(config.device, weight, generator, start)
        return noisy * drift_gain(fresh, noisy)
    if input_range is None:
        raise ConfigError("input_range: got None for an analog crossbar; calibrate it with calibrated_ranges.")
    matrices = weight.flatten(1).chunk(groups)
    arrays = tuple(program_array(matrix, config, generator, t_s=t_s, read=read) for matrix in matrices)
    return AnalogWeight(arrays, input_range, weight.shape, read or generator)


def layer_forward(
    layer: MappedLayer, x: Tensor, weight: ProgrammedWeight, generator: torch.Generator | None = None
) -> Tensor:
    """Return the output of a plain layer of torch with another weight; its bias is digital and exact.

    Args:
        layer: the layer; a forward or hooks of its own do not run (see `intercepted`).
        x: its input.
        weight: of one chip.
        generator: draws read and output noise of an analog weight.
    """
    if isinstance(weight, AnalogWeight):
        return weight.product(operation_of(layer), layer_inputs(layer, x), layer.bias, generator)
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, layer.bias)
    return layer._conv_forward(x, weight, layer.bias)
