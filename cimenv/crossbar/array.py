"""One matrix on analog tiles: programming, and the chain from digital inputs to digital outputs.

Sources: Rasch et al., Nature Communications 14:5282 (2023), and IBM's aihwkit 1.2, whose compiled tile this reproduces
code by code. Shapes: a matrix is `[out, in]`, inputs are `[..., in]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cimenv.core.errors import ConfigError, DataError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.converters import CONVERTERS, in_learned_range
from cimenv.crossbar.device import before_ageing, checked_time
from cimenv.crossbar.variation import normal_like

WIRE = 0.35 * 5e-6  # wire resistance of a cell times largest conductance (aihwkit, Rasch et al. 2023)
SMALLEST_READING = 1e-4  # of the drift compensation
InputRange = float | Tensor


class Operator:
    """How inputs meet the weights `[out, n]` of a tile: here as vectors `[..., n]`, giving `[..., out]`."""

    outputs = -1  # the dimension of the outputs

    def check(self, inputs: Tensor, width: int) -> None:
        """Refuse inputs that do not fit a matrix of so many inputs."""
        if inputs.shape[-1] != width:
            raise DataError(f"inputs have {inputs.shape[-1]} features; the matrix takes {width}.")

    def part(self, inputs: Tensor, which: slice) -> Tensor:
        """Return the inputs of one tile."""
        return inputs[..., which]

    def product(self, u: Tensor, w: Tensor) -> Tensor:
        """Return the products with every row of `w`."""
        return u @ w.mT

    def by_output(self, values: Tensor, like: Tensor) -> Tensor:
        """Return one value an output in a shape that goes with the outputs."""
        return values if self.outputs == -1 else values.reshape(-1, *[1] * (like.dim() - 2))


@dataclass(frozen=True)
class Tile:
    """A part of a matrix's inputs on one array.

    Attributes:
        inputs: which inputs.
        weights: what the devices hold, programmed and read, `[out, n]`, in units of the largest target.
        row_scale: gamma, the digital scale of every output, `[out]`.
        gain: factor of the drift compensation.
        slopes: S-shape n_i of every output, `[out]`; None without.
        offsets: voltage offset of every output, `[out]`; None without.
    """

    inputs: slice
    weights: Tensor
    row_scale: Tensor
    gain: Tensor | float = 1.0
    slopes: Tensor | None = None
    offsets: Tensor | None = None


@dataclass(frozen=True)
class AnalogArray:
    """A programmed matrix.

    Attributes:
        config: the crossbar.
        tiles: one a part of the inputs; the outputs of all are summed.
    """

    config: CrossbarConfig
    tiles: tuple[Tile, ...]

    def mvm(
        self,
        inputs: Tensor,
        input_range: InputRange,
        generator: torch.Generator | None = None,
        operator: Operator | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Return the digital outputs `[..., out]` of digital inputs `[..., in]`.

        Args:
            inputs: any leading dimensions.
            input_range: alpha, the largest |input| that is converted: one for all tiles, or one a tile.
            generator: draws read and output noise.
            operator: how inputs meet weights, if not as vectors: a convolution.
            counts: inputs, clipped inputs, outputs, saturated outputs, `[4]`, which this product is added to.

        Raises:
            ConfigError: there is noise to draw, but no generator; or an input range is not positive.
            DataError: the inputs are no floating-point numbers, or their last dimension does not fit.
        """
        operator = operator or Operator()
        if not inputs.is_floating_point():
            raise DataError(f"inputs are {inputs.dtype}; give floating-point numbers.")
        operator.check(inputs, self.tiles[-1].inputs.stop)
        ranges = self.input_ranges(input_range)
        total: Tensor | None = None
        for tile, alpha in zip(self.tiles, ranges, strict=True):
            part = operator.part(inputs, tile.inputs)
            if isinstance(alpha, Tensor) and alpha.requires_grad:  # its gradient comes from where inputs are clamped
                part, alpha = in_learned_range(part, alpha), alpha.detach()
            scaled = part / alpha
            u = CONVERTERS.find(self.config.dac).convert(scaled, self.config.dac_bits, 1.0)
            if counts is not None:
                _count(counts[:2], scaled.abs() > 1.0)
            if self.config.input_noise:
                u = u + self.config.input_noise * _normal(u, generator)
            y = analog_product(u, tile, self.config, generator, operator)
            if counts is not None:
                _count(counts[2:], y.abs() >= self.config.adc_bound)
            y = y * operator.by_output(tile.row_scale * tile.gain * alpha, y)
            total = y if total is None else total + y
        assert total is not None
        return total

    def input_ranges(self, given: InputRange) -> Sequence[InputRange]:
        """Return the input range of every tile.

        Raises:
            ConfigError: one of them is not positive, or their number is not that of the tiles.
        """
        values = torch.as_tensor(given).detach().reshape(-1)
        if not bool(((values > 0) & values.isfinite()).all()):
            wrong = values[~((values > 0) & values.isfinite())][0]
            raise ConfigError(f"input_range: got {wrong:g}; give the largest |input|, above 0 and finite.")
        if len(values) not in (1, len(self.tiles)):
            raise ConfigError(
                f"input_range: got {len(values)} values for {len(self.tiles)} tiles; give one, or one each."
            )
        if isinstance(given, Tensor):
            return list(given.reshape(-1)) if given.numel() > 1 else [given.reshape(())] * len(self.tiles)
        return [given] * len(self.tiles)

    def to(self, device: torch.device) -> AnalogArray:
        """Return the same array on another device."""

        def moved(value: Any) -> Any:
            return value.to(device) if isinstance(value, Tensor) else value

        tiles = (Tile(**{name: moved(value) for name, value in vars(tile).items()}) for tile in self.tiles)
        return replace(self, tiles=tuple(tiles))


def analog_product(
    u: Tensor, tile: Tile, config: CrossbarConfig, generator: torch.Generator | None, operator: Operator
) -> Tensor:
    """Return the output of one tile's ADC for converted inputs `u` in -1 ... 1.

    Gradients are those of the product with the programmed weights, where the ADC does not saturate: the chain's small
    terms would triple the cost of a backward pass (the kit trains with exact backward products for the same reason).
    """
    y = operator.product(u, tile.weights)
    if y.requires_grad:
        with torch.no_grad():
            held = replace(tile, weights=tile.weights.detach())
            chained = _before_adc(u.detach(), y.detach(), held, config, generator, operator)
        output = _InPlaceOf.apply(y, chained)
        assert isinstance(output, Tensor)
        y = output
    else:
        y = _before_adc(u, y, tile, config, generator, operator)
    if not config.adc_bits and tile.slopes is None:
        return y
    return CONVERTERS.find(config.adc).convert(y, config.adc_bits, config.adc_bound)


class _InPlaceOf(torch.autograd.Function):
    """Give the second value the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, value: Tensor) -> Tensor:
        del ctx, exact
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        del ctx
        return gradient, None


def _before_adc(
    u: Tensor, y: Tensor, tile: Tile, config: CrossbarConfig, generator: torch.Generator | None, operator: Operator
) -> Tensor:
    """Return the values that reach the ADC of one tile whose exact product is `y`."""
    w = tile.weights
    if config.ir_drop:
        y = _with_ir_drop(u, y, w, config.ir_drop, operator)
    if tile.offsets is not None:
        y = y - operator.by_output(tile.offsets * w.sum(-1), y)
    variance = operator.product(u.square(), w.abs() * config.read_noise**2) if config.read_noise else None
    if tile.slopes is not None:
        y = _with_noise(y, variance, 0.0, generator)
        variance = None
        y = y / (1.0 + (operator.by_output(tile.slopes, y) * y).abs())
        if config.s_shape_calibration:
            y = y * (1.0 + tile.slopes.mean() * config.s_shape_calibration * config.adc_bound) ** 2
    return _with_noise(y, variance, config.output_noise, generator)  # without an S-shape one draw serves both


def _with_ir_drop(u: Tensor, y: Tensor, w: Tensor, strength: float, operator: Operator) -> Tensor:
    """Return `y` less the current lost to the wires' resistance: a cubic in the load; input 0 is nearest the ADC."""
    n = w.shape[-1]
    distance = 1.0 - (1.0 - torch.arange(n, device=w.device, dtype=w.dtype) / n).square()
    far = operator.product(u, w * distance)
    load = operator.product(u.abs(), w.abs() * (n * WIRE))
    half, fifth = w.new_tensor(0.5), w.new_tensor(-0.2)
    share = torch.addcmul(half, torch.add(fifth, load, alpha=0.05), load)  # few passes: each costs more than its sums
    return torch.addcmul(y, share, load * far, value=-strength)


def _with_noise(y: Tensor, variance: Tensor | None, deviation: float, generator: torch.Generator | None) -> Tensor:
    """Return `y` with Gaussian noise of a variance of its own, which is used up, and of a common deviation."""
    if variance is None:
        return y + deviation * _normal(y, generator) if deviation else y
    return torch.addcmul(y, variance.add_(deviation**2).sqrt_(), _normal(y, generator))


def _count(counts: Tensor, cut: Tensor) -> None:
    counts += torch.tensor([cut.numel(), int(cut.sum())])


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise ConfigError("generator: got None, but the crossbar has read or output noise; give a torch.Generator.")
    return normal_like(like, generator)


def split_inputs(inputs: int, max_inputs: int | None) -> list[slice]:
    """Return the parts of a matrix's inputs, balanced: the first ones are one longer where it does not divide."""
    parts = -(-inputs // max_inputs) if max_inputs else 1
    base, longer = divmod(inputs, parts)
    stops = [base * k + min(k, longer) for k in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(stops)]


def program_array(
    weights: Tensor,
    config: CrossbarConfig,
    generator: torch.Generator | None = None,
    *,
    t_s: float = 0.0,
    read: torch.Generator | None = None,
) -> AnalogArray:
    """Program a matrix of TARGET weights; the devices keep what `generator` drew at any later time.

    Args:
        weights: `[out, in]`; gradients reach them straight through.
        config: the crossbar.
        generator: draws programming and everything that is fixed per chip.
        t_s: seconds after programming.
        read: draws what is drawn again at every reading of the devices (1/f noise), and the noise of the drift
            compensation's measurements; default `generator`.

    Raises:
        ConfigError: the devices or the periphery draw, but there is no generator; or `t_s` is negative.
    """
    checked_time(t_s)
    tiles = []
    for inputs in split_inputs(weights.shape[-1], config.max_inputs):
        part = weights[..., inputs]
        largest = part.detach().abs().amax(-1)
        if not config.row_scaling:  # one scale for all rows of the tile
            largest = largest.amax(-1, keepdim=True).expand_as(largest)
        gamma = torch.where(largest > 0, largest, 1.0)
        targets = part / gamma[..., None]
        tile = Tile(inputs, targets, gamma, 1.0, *_periphery(gamma, config, generator))
        tiles.append(_written(tile, config, generator, t_s, read))
    return AnalogArray(config, tuple(tiles))


def _periphery(
    like: Tensor, config: CrossbarConfig, generator: torch.Generator | None
) -> tuple[Tensor | None, Tensor | None]:
    """Draw what is fixed per output and chip, in the shape of `like`: S-shape and voltage offset."""
    slopes = offsets = None
    if config.s_shape:
        slopes = torch.full_like(like, config.s_shape / config.adc_bound)
        if config.s_shape_spread:
            slopes = (slopes * (1.0 + config.s_shape_spread * _normal(slopes, generator))).abs()
    if config.voltage_offset:
        offsets = config.voltage_offset * _normal(like, generator)
    return slopes, offsets


def _written(
    tile: Tile, config: CrossbarConfig, generator: torch.Generator | None, t_s: float, read: torch.Generator | None
) -> Tile:
    """Return the tile with programmed and read devices, and its drift compensation."""
    device, targets = config.device, tile.weights
    if device.exact:
        return tile
    if generator is None:
        raise ConfigError(
            f"generator: got None, but '{device.kind}' devices draw their errors; give a torch.Generator."
        )
    start = generator.get_state()
    now = replace(tile, weights=device.program(targets, generator, t_s, read))
    if not (config.drift_compensation and device.ages and t_s > 0):
        return now
    fresh = replace(tile, weights=before_ageing(device, targets, generator, start))
    read = read or generator
    return replace(now, gain=_reading(fresh, config, read) / _reading(now, config, read))


def _reading(tile: Tile, config: CrossbarConfig, generator: torch.Generator) -> Tensor:
    """Return mean |y| of the tile's chain over inputs that are one-hot (global drift compensation of aihwkit)."""
    with torch.no_grad():
        ones = torch.eye(tile.weights.shape[-1], device=tile.weights.device, dtype=tile.weights.dtype)
        return analog_product(ones, tile, config, generator, Operator()).abs().mean().clamp_min(SMALLEST_READING)


def mvm(
    inputs: Tensor,
    weights: Tensor,
    config: CrossbarConfig,
    *,
    input_range: InputRange,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the product of one matrix with digital inputs, as freshly programmed analog tiles give it.

    Args:
        inputs: `[..., in]`.
        weights: TARGET weights `[out, in]`; row scales come from them, never from programmed ones.
        config: devices, converters, and everything in between.
        input_range: alpha, the largest |input| that is converted: one for all tiles, or one a tile.
        generator: draws devices and noise; None for a crossbar without any.

    Returns:
        Outputs `[..., out]`, without bias.

    Raises:
        ConfigError: something is drawn, but there is no generator; or the input range is not positive.
        DataError: shapes do not fit, or a value is no floating-point number or not finite.
    """
    if weights.ndim != 2:
        raise DataError(f"weights have shape {tuple(weights.shape)}; give a matrix [out, in].")
    for name, values in (("inputs", inputs), ("weights", weights)):
        if not values.is_floating_point():
            raise DataError(f"{name} are {values.dtype}; give floating-point numbers.")
        if not bool(values.isfinite().all()):
            raise DataError(f"{name} hold NaN or infinity; give finite values.")
    return program_array(weights, config, generator).mvm(inputs, input_range, generator)
