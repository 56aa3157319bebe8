"""Device models: one small class each. `program` makes one chip's weights from the nominal ones.

These act on weights and know no time; `conductance` has those that hold conductances.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError
from cimenv.crossbar import variation
from cimenv.crossbar.conductance import DeviceTable, Pcm, Reram


class Timeless(Frozen):
    """Devices that are the same at any time."""

    @property
    def ages(self) -> bool:
        """Return whether weights change with time: here they do not."""
        return False

    @property
    def known_times_s(self) -> tuple[float, ...] | None:
        """Return the times at which the model is known; None: at any."""
        return None


class Ideal(Timeless):
    """Exact devices: the digital network."""

    kind: Literal["ideal"] = "ideal"

    def program(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return `w` itself."""
        del generator
        return w

    @property
    def relative_strength(self) -> float:
        """Return the standard deviation of dW relative to |W| or to full scale: here 0."""
        return 0.0


class LogNormal(Timeless):
    """Multiplicative log-normal variation, fixed per chip (CorrectNet, DATE 2023)."""

    kind: Literal["log_normal"] = "log_normal"
    sigma: float = Field(0.5, ge=0, le=5, description="standard deviation of ln(w / w_nominal)")

    def program(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chip's weights: `w * exp(theta)`."""
        return variation.log_normal(w, self.sigma, generator)

    @property
    def relative_strength(self) -> float:
        """Return sigma."""
        return self.sigma


class Gaussian(Timeless):
    """Additive Gaussian variation in units of the layer's full scale S = max|W|, censored from above on request."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(0.1, ge=0, le=5, description="sigma_t: standard deviation of dW/S before censoring")
    threshold: float | None = Field(None, gt=0, description="largest deviation in units of sigma (TRICE); None: none")

    def program(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chip's weights: `w + min(Z, threshold) * sigma * S`."""
        return variation.censored_gaussian(w, self.sigma, self.threshold, generator)

    @property
    def relative_strength(self) -> float:
        """Return sigma."""
        return self.sigma


class BitSlicedGaussian(Timeless):
    """M-bit weights on M/K devices of K bits, each off by N(0, sigma) of its range (ICCAD 2022, TRICE)."""

    kind: Literal["bit_sliced_gaussian"] = "bit_sliced_gaussian"
    sigma: float = Field(0.1, ge=0, le=5, description="per device, in units of one device's full range")
    weight_bits: int = Field(8, ge=2, le=16)
    device_bits: int = Field(2, ge=1, le=16)
    write_verify: float | None = Field(None, gt=0, le=1, description="th_g: largest |dg| left by write-verify")
    mid_range_factor: float = Field(1.0, ge=1, description="s: how much noisier mid-range weights are")

    @model_validator(mode="after")
    def _check(self) -> BitSlicedGaussian:
        if self.weight_bits % self.device_bits:
            raise ValueError(f"device_bits {self.device_bits} must divide weight_bits {self.weight_bits}")
        if self.write_verify is not None and self.mid_range_factor != 1.0:
            raise ValueError("write_verify bounds every device, so mid_range_factor must stay 1")
        return self

    def program(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chip's weights: quantised, plus the summed deviations of its devices."""
        return variation.bit_sliced_gaussian(
            w,
            self.sigma,
            generator,
            weight_bits=self.weight_bits,
            device_bits=self.device_bits,
            write_verify=self.write_verify,
            mid_range_factor=self.mid_range_factor,
        )

    @property
    def relative_strength(self) -> float:
        """Return std(dW)/S before write-verify."""
        return self.sigma * variation.bit_slicing_factor(self.weight_bits, self.device_bits)


WorkingDevice = Annotated[
    Ideal | LogNormal | Gaussian | BitSlicedGaussian | Pcm | Reram | DeviceTable, Field(discriminator="kind")
]


class Stuck(Frozen):
    """Other devices, some of which are stuck: each of the two devices of a weight, independently.

    A stuck device holds nothing, the largest conductance, or anything between; the rest is as `device` says.
    Source: the fault study of Rasch et al. (Nature Communications 14:5282, 2023).
    """

    kind: Literal["stuck"] = "stuck"
    device: WorkingDevice = Ideal()
    at_zero: float = Field(0.0, ge=0, le=1, description="share of devices stuck at zero")
    at_max: float = Field(0.0, ge=0, le=1, description="share of devices stuck at the largest conductance")
    at_random: float = Field(0.0, ge=0, le=1, description="share of devices stuck anywhere between, uniformly")

    @model_validator(mode="after")
    def _check(self) -> Stuck:
        if self.at_zero + self.at_max + self.at_random > 1:
            raise ValueError("at_zero, at_max and at_random must not be more than 1 together")
        return self

    @property
    def ages(self) -> bool:
        """Return whether the working devices change with time."""
        return self.device.ages

    @property
    def known_times_s(self) -> tuple[float, ...] | None:
        """Return the times at which the working devices are known; None: at any."""
        return self.device.known_times_s

    @property
    def relative_strength(self) -> float:
        """Return that of the working devices."""
        return self.device.relative_strength

    def program(
        self, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
    ) -> Tensor:
        """Return one chip's weights; the same devices are stuck at any time."""
        shares = (self.at_zero, self.at_max, self.at_random)
        fates, levels = (variation.uniform((2, *w.shape), generator).to(w.device) for _ in range(2))
        return variation.stuck(programmed_at(self.device, w, generator, t_s, read), w, shares, fates, levels)


LONGEST_S = 1e12  # 30,000 years; the fits of all devices are of seconds to a year
DeviceModel = Ideal | LogNormal | Gaussian | BitSlicedGaussian | Pcm | Reram | DeviceTable | Stuck
Device = Annotated[DeviceModel, Field(discriminator="kind")]


def checked_time(t_s: float) -> float:
    """Return a time after programming in seconds.

    Raises:
        ConfigError: it is negative, NaN, or beyond LONGEST_S.
    """
    if not 0 <= t_s <= LONGEST_S:
        raise ConfigError(f"t_s: got {t_s}; give a time of at least 0 seconds, and at most {LONGEST_S:g}.")
    return float(t_s)


def programmed_at(
    device: DeviceModel, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
) -> Tensor:
    """Return one chip's weights at a time.

    Args:
        device: the model.
        w: nominal weights.
        generator: draws the devices: the same state gives the same devices at any time.
        t_s: seconds after programming.
        read: draws what is new at every reading; default `generator`.
    """
    if isinstance(device, Timeless):
        return device.program(w, generator)
    return device.program(w, generator, t_s, read)


def before_ageing(device: DeviceModel, w: Tensor, generator: torch.Generator, start: Tensor) -> Tensor:
    """Return the weights that the same devices had directly after programming; the generator is left as it is.

    Args:
        device: the model.
        w: nominal weights.
        generator: has drawn the devices.
        start: its state before it did.
    """
    now = generator.get_state()
    generator.set_state(start)
    fresh = programmed_at(device, w.detach(), generator)
    generator.set_state(now)
    return fresh


def drift_gain(fresh: Tensor, aged: Tensor) -> Tensor:
    """Return by what factor of the outputs drift is compensated: mean|fresh| / mean|aged|, a scalar.

    Where nothing is left that a factor could bring back (no device holds anything), it is 1.
    """
    left = aged.detach().abs().mean()
    return torch.where(left > 0, fresh.abs().mean() / left, torch.ones_like(left))
