"""Device models that act on weights and know no time, one small class each; `conductance` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from cimenv.crossbar import variation
from cimenv.crossbar.device import DeviceModel


class Variation(DeviceModel):
    """Devices whose weights deviate once, when they are programmed, and then stay."""

    def program(
        self, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
    ) -> Tensor:
        """Return one chip's weights, the same at any time; see `DeviceModel.program`."""
        del t_s, read
        return self.varied(w, generator)

    def varied(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return the weights with the deviations of one chip."""
        raise NotImplementedError


class Ideal(Variation):
    """Exact devices: the digital network."""

    kind: Literal["ideal"] = "ideal"

    def varied(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return `w` itself."""
        del generator
        return w

    @property
    def exact(self) -> bool:
        """Return True."""
        return True

    def scaled(self, factor: float) -> DeviceModel:
        """Return the device itself, since it has no noise."""
        del factor
        return self

    def aihwkit_noise(self) -> Mapping[str, float] | None:
        """Return None: aihwkit's tiles are exact without a noise model."""
        return None


class Spread(Variation):
    """Variation of one strength, `sigma`."""

    sigma: float = Field(0.1, ge=0, le=5)
    scaled_fields: ClassVar[tuple[str, ...]] = ("sigma",)

    @property
    def relative_strength(self) -> float:
        """Return sigma."""
        return self.sigma

    @property
    def label(self) -> str:
        """Return the kind and sigma."""
        return f"{self.kind} {self.sigma:g}"


class LogNormal(Spread):
    """Multiplicative log-normal variation, fixed per chip.

    Source: CorrectNet (DATE 2023).
    """

    kind: Literal["log_normal"] = "log_normal"
    sigma: float = Field(0.5, ge=0, le=5, description="standard deviation of ln(w / w_nominal)")

    def varied(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chip's weights: `w * exp(theta)`."""
        return variation.log_normal(w, self.sigma, generator)


class Gaussian(Spread):
    """Additive Gaussian variation in units of the layer's full scale S = max|W|, censored from above on request.

    Source: TRICE (ICCAD 2023, arXiv 2307.15853).
    """

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(0.1, ge=0, le=5, description="sigma_t: standard deviation of dW/S before censoring")
    threshold: float | None = Field(None, gt=0, description="largest deviation in units of sigma (TRICE); None: none")

    def varied(self, w: Tensor, generator: torch.Generator) -> Tensor:
        """Return one chip's weights: `w + min(Z, threshold) * sigma * S`."""
        return variation.censored_gaussian(w, self.sigma, self.threshold, generator)


class BitSlicedGaussian(Spread):
    """M-bit weights on M/K devices of K bits, each off by N(0, sigma) of its range.

    Source: Yan et al. (ICCAD 2022, arXiv 2207.07626) and TRICE (ICCAD 2023, arXiv 2307.15853).
    """

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

    def varied(self, w: Tensor, generator: torch.Generator) -> Tensor:
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


class Stuck(DeviceModel):
    """Other devices, some of which are stuck: each of the two devices of a weight, independently.

    A stuck device holds nothing, the largest conductance, or anything between; the rest is as `device` says.

    Source: the fault study of Rasch et al. (Nature Communications 14:5282, 2023).
    """

    kind: Literal["stuck"] = "stuck"
    device: DeviceModel = Ideal()
    at_zero: float = Field(0.0, ge=0, le=1, description="share of devices stuck at zero")
    at_max: float = Field(0.0, ge=0, le=1, description="share of devices stuck at the largest conductance")
    at_random: float = Field(0.0, ge=0, le=1, description="share of devices stuck anywhere between, uniformly")

    @field_validator("device")
    @classmethod
    def _works(cls, device: DeviceModel) -> DeviceModel:
        if isinstance(device, Stuck):
            raise ValueError("give working devices; which of them are stuck is said once, around them")
        return device

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
        """Return the times at which the working devices are known, or None where it is known at any time."""
        return self.device.known_times_s

    @property
    def relative_strength(self) -> float:
        """Return the relative strength of the working devices."""
        return self.device.relative_strength

    @property
    def label(self) -> str:
        """Return the kind and that of the working devices."""
        return f"{self.kind} {self.device.label}"

    def scaled(self, factor: float) -> DeviceModel:
        """Return a model whose working devices have `factor` times their noise; as many are stuck."""
        return self.model_copy(update={"device": self.device.scaled(factor)})

    def program(
        self, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
    ) -> Tensor:
        """Return one chip's weights; the same devices are stuck at any time."""
        shares = (self.at_zero, self.at_max, self.at_random)
        fates, levels = (variation.uniform((2, *w.shape), generator).to(w.device) for _ in range(2))
        return variation.stuck(self.device.program(w, generator, t_s, read), w, shares, fates, levels)
