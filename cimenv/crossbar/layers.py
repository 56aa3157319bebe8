"""Layers whose weight lies on the crossbar: their forward pass with a programmed weight, exact or analog."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.errors import ConfigError
from cimenv.crossbar.array import AnalogArray, Operator, program_array, split_inputs
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.devices import before_ageing, checked_time, drift_gain, programmed_at

MappedLayer = nn.Conv1d | nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class AnalogWeight:
    """A layer's weight on analog tiles: products run through converters, IR drop and noise.

    Attributes:
        arrays: one a group of the convolution.
        input_range: alpha of every tile, `[tiles]`, or one for all, `[1]`.
        read: draws read and output noise, unless a product brings its own generator.
        exact: output channels that are kept digital, and the layer's nominal weight; None for none.
        counts: of what the converters cut off, `[4]`, see `AnalogArray.mvm`; None does not count.
    """

    arrays: tuple[AnalogArray, ...]
    input_range: Tensor
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

    def forward(self, layer: MappedLayer, input: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the layer's output; its bias is digital. The argument's name is that of torch's layers."""
        x, draws = input, generator or self.read
        channels = -1 if isinstance(layer, nn.Linear) else 1
        if isinstance(layer, nn.Linear):
            y = self.arrays[0].mvm(x, self.input_range, draws, counts=self.counts)
        else:
            groups = x.chunk(len(self.arrays), dim=1)
            parts = [
                self._convolved(layer, part, array, draws) for part, array in zip(groups, self.arrays, strict=True)
            ]
            y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if layer.bias is not None:
            y = y + (layer.bias if channels == -1 else layer.bias.reshape(-1, *[1] * (y.ndim - 2)))
        if self.exact is not None:
            chosen, nominal = self.exact
            y = y.index_copy(channels, chosen, layer_forward(layer, x, nominal).index_select(channels, chosen))
        return y

    def _convolved(
        self, layer: nn.Conv1d | nn.Conv2d, x: Tensor, array: AnalogArray, generator: torch.Generator | None
    ) -> Tensor:
        convolution = Convolution(layer)
        whole = all(tile.inputs.stop % convolution.kernel == 0 for tile in array.tiles)  # tiles hold whole channels
        if whole and not array.config.input_noise:  # which is drawn anew for every patch
            return array.mvm(x, self.input_range, generator, convolution, self.counts)
        one = torch.empty(1, array.tiles[-1].inputs.stop, device="meta")
        size = convolution.product(x[:1].to("meta"), one).shape[2:]
        y = array.mvm(patches(layer, x), self.input_range, generator, Patches(), self.counts)
        return y.reshape(len(x), -1, *size)


class Convolution(Operator):
    """A convolution whose tiles hold whole channels: `[n, in, ...]` to `[n, out, ...]`."""

    outputs = 1

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        self.layer, self.kernel = layer, math.prod(layer.kernel_size)

    def check(self, inputs: Tensor, width: int) -> None:
        """Convolutions are checked by torch."""

    def part(self, inputs: Tensor, which: slice) -> Tensor:
        """Return the channels of one tile."""
        return inputs[:, which.start // self.kernel : which.stop // self.kernel]

    def product(self, u: Tensor, w: Tensor) -> Tensor:
        """Return the convolution with every row of `w`."""
        layer = self.layer
        weight = w.unflatten(1, (-1, *layer.kernel_size))
        if layer.padding_mode != "zeros":
            u, padding = F.pad(u, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), 0
        else:
            padding = layer.padding  # type: ignore[assignment]
        convolve = F.conv2d if isinstance(layer, nn.Conv2d) else F.conv1d
        return convolve(u, weight, None, layer.stride, padding, layer.dilation)


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
        noisy = programmed_at(config.device, weight, generator, t_s, read)
        if not (config.drift_compensation and config.device.ages and t_s > 0):
            return noisy
        fresh = before_ageing(config.device, weight, generator, start)
        return noisy * drift_gain(fresh, noisy)
    if input_range is None:
        raise ConfigError("input_range: got None for an analog crossbar; calibrate it with calibrated_ranges.")
    matrices = weight.flatten(1).chunk(groups)
    arrays = tuple(program_array(matrix, config, generator, t_s=t_s, read=read) for matrix in matrices)
    return AnalogWeight(arrays, input_range, read or generator)


def layer_forward(
    layer: MappedLayer, x: Tensor, weight: ProgrammedWeight, generator: torch.Generator | None = None
) -> Tensor:
    """Return a mapped layer's output with another weight; its bias is digital and exact.

    Args:
        layer: the layer.
        x: its input.
        weight: of one chip.
        generator: draws read and output noise of an analog weight.
    """
    if isinstance(weight, AnalogWeight):
        return weight.forward(layer, x, generator)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    return layer._conv_forward(x, weight, layer.bias)


@contextmanager
def programmed(model: nn.Module, weights: Mapping[str, ProgrammedWeight]) -> Iterator[nn.Module]:
    """Run `model` with other weights at its sites; the nominal ones are back afterwards, whatever happens.

    Gradients flow into `weights`.
    """
    modules = {name: model.get_submodule(name) for name in weights}
    own = {name: vars(module)["forward"] for name, module in modules.items() if "forward" in vars(module)}
    nominal = {name: module._parameters["weight"] for name, module in modules.items()}
    try:
        for name, module in modules.items():  # in place of the parameter, so that the order of parameters stays
            weight = weights[name]
            if isinstance(weight, AnalogWeight):
                module.forward = partial(weight.forward, module)  # type: ignore[arg-type]
            else:
                module._parameters["weight"] = weight  # type: ignore[assignment]
        yield model
    finally:
        for name, module in modules.items():
            module._parameters["weight"] = nominal[name]
            vars(module).pop("forward", None)
            if name in own:
                module.forward = own[name]


def patches(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Return the unfolded input of a convolution, `[n, in * kernel, positions]`, in the order of its weights."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer, nn.Conv1d):
        x, kernel, dilation, stride = x.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
    return F.unfold(x, kernel, dilation, 0, stride)


def layer_input(args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
    """Return the input of a mapped layer from the arguments of its call."""
    return args[0] if args else named["input"]


def matrix_inputs(layer: MappedLayer, x: Tensor, config: CrossbarConfig) -> list[Tensor]:
    """Return the inputs that every tile of a layer sees, flattened; groups share their tiles' ranges."""
    if isinstance(layer, nn.Linear):
        return [x[..., part].flatten() for part in split_inputs(layer.in_features, config.max_inputs)]
    columns = patches(layer, x)
    columns = columns.reshape(len(columns), layer.groups, -1, columns.shape[-1])
    return [columns[:, :, part].flatten() for part in split_inputs(columns.shape[2], config.max_inputs)]
