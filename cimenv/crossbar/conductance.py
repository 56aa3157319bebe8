"""Devices that hold conductances: every weight is a differential pair g+ - g-, in microsiemens.

`k = g_max / max|W|` maps a matrix to conductances: g+ = max(kW, 0), g- = max(-kW, 0). Both devices of a pair are
programmed, drift and are read.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cimenv.core.errors import ConfigError
from cimenv.core.files import CONFIGURATION, read_text
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.variation import normal_like

DAY_S = 86_400.0


class Conductance(DeviceModel):
    """Differential pairs of devices; subclasses say what a target conductance becomes."""

    g_max_us: float = Field(25.0, ge=1e-6, le=1e6, description="largest conductance in microsiemens")

    @property
    def ages(self) -> bool:
        """Return whether conductances change with time."""
        return True

    def program(
        self, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
    ) -> Tensor:
        """Return one chip's weights `t_s` seconds after programming, in the unit of `w`; straight-through gradient.

        Args:
            w: target weights of any shape; max|w| is held by g_max.
            generator: draws the devices: the same generator gives the same devices at any time.
            t_s: seconds after programming.
            read: draws what is new at every reading; default `generator`.
        """
        targets = w.detach()
        scale = targets.abs().amax()
        if scale == 0:
            scale = torch.ones_like(scale)
        relative = targets / scale
        pairs = torch.stack([relative, -relative]).clamp_min(0.0)
        g = self.conductances(pairs * self.g_max_us, generator, t_s, read or generator)
        return w + ((g[0] - g[1]) * (scale / self.g_max_us) - targets)

    def conductances(self, targets: Tensor, generator: torch.Generator, t_s: float, read: torch.Generator) -> Tensor:
        """Return the conductances that devices with these targets have at a time, all in microsiemens.

        Args:
            targets: any shape.
            generator: draws the devices.
            t_s: seconds after programming.
            read: draws the reading.
        """
        raise NotImplementedError

    @property
    def relative_strength(self) -> float:
        """Return the standard deviation of a half-full device after programming, in units of g_max."""
        half = torch.full((2_000,), self.g_max_us / 2, dtype=torch.float32, device="cpu")
        draws = torch.Generator().manual_seed(0)
        return float(self.conductances(half, draws, 0.0, draws).std() / self.g_max_us)


class Pcm(Conductance):
    """Phase-change memory: programming noise, drift, 1/f read noise.

    Source: the statistical model `PCMLikeNoiseModel` of aihwkit 1.2, fitted to a million devices.
    """

    kind: Literal["pcm"] = "pcm"
    programming_noise: float = Field(1.0, ge=0, le=1e6, description="scale of the programming noise")
    drift: float = Field(1.0, ge=0, le=1e6, description="scale of the drift exponents")
    drift_variation: float = Field(1.0, ge=0, le=1e6, description="scale of their spread over devices")
    read_noise: float = Field(1.0, ge=0, le=1e6, description="scale of the 1/f noise")
    t_0_s: float = Field(20.0, ge=1e-6, le=1e9, description="time from programming to the first reading")
    t_read_s: float = Field(250e-9, ge=1e-12, le=1e9, description="duration of a reading, at most t_0_s")
    scaled_fields: ClassVar[tuple[str, ...]] = ("programming_noise", "drift_variation", "read_noise")

    @model_validator(mode="after")
    def _check(self) -> Pcm:
        if self.t_read_s > self.t_0_s:
            raise ValueError(f"t_read_s is {self.t_read_s:g}; a reading is no longer than t_0_s, {self.t_0_s:g} s")
        return self

    def conductances(self, targets: Tensor, generator: torch.Generator, t_s: float, read: torch.Generator) -> Tensor:
        """Return programmed, drifted and read conductances; see `Conductance.conductances`."""
        programmed = self.programmed(targets, generator)
        now = t_s + self.t_0_s
        drifted = programmed
        if self.drift:
            drifted = programmed * (now / self.t_0_s) ** -self.exponents(targets, generator)
        if not self.read_noise:
            return drifted
        relative = (programmed / self.g_max_us).pow_(0.65).clamp_(min=1e-3)
        noise = (0.0088 / relative).clamp_(max=0.2) * math.sqrt(math.log((now + self.t_read_s) / (2 * self.t_read_s)))
        return (drifted + self.read_noise * drifted * noise * normal_like(targets, read)).clamp_(min=0.0)

    def programmed(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Return conductances after programming, never below 0."""
        r = targets / self.g_max_us
        sigma = (0.26348 + 1.9650 * r - 1.1731 * r * r) * (self.programming_noise * self.g_max_us / 25.0)
        return (targets + sigma * normal_like(targets, generator)).clamp_(min=0.0)

    def exponents(self, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Return the drift exponent nu of every device."""
        log = (targets / self.g_max_us).clamp(min=1e-7).log_()
        mean = (-0.0155 * log + 0.0244).clamp_(0.049, 0.1)
        spread = (-0.0125 * log - 0.0059).clamp_(0.008, 0.045) * self.drift_variation
        return (mean + spread * normal_like(targets, generator)).abs_() * self.drift

    def aihwkit_noise(self) -> Mapping[str, float] | None:
        """Return the same scales and times; see `DeviceModel.aihwkit_noise`."""
        if self.drift_variation != 1.0:
            raise ConfigError("device.drift_variation: aihwkit has no scale for it; leave it at 1.")
        return {
            "g_max": self.g_max_us,
            "prog_noise_scale": self.programming_noise,
            "drift_scale": self.drift,
            "read_noise_scale": self.read_noise,
            "t_0": self.t_0_s,
            "t_read": self.t_read_s,
        }


RERAM_US = {  # sigma(r) in microsiemens for g_max 40, coefficients of r^0 ... r^4; Wan et al., Nature 608 (2022)
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    DAY_S: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * DAY_S: (0.782, 20.274, -43.507, 37.062, -11.934),
}


class Reram(Conductance):
    """Resistive memory: a spread around the target that grows within two days; no drift of the mean.

    Source: Wan et al., Nature 608 (2022), as fitted in aihwkit; the fit is for 40 uS and scales with g_max.

    Known at 1 s (also the programming noise), 1 day and 2 days; another time is an error.
    """

    kind: Literal["reram_wan2022"] = "reram_wan2022"
    g_max_us: float = Field(40.0, ge=1e-6, le=1e6, description="largest conductance in microsiemens")
    noise: float = Field(1.0, ge=0, le=1e6, description="scale of the spread")
    scaled_fields: ClassVar[tuple[str, ...]] = ("noise",)

    @property
    def known_times_s(self) -> tuple[float, ...]:
        """Return 0 and the times of the fit."""
        return (0.0, *RERAM_US)

    def spread(self, targets: Tensor, t_s: float) -> Tensor:
        """Return sigma in microsiemens for target conductances at a time.

        Raises:
            ConfigError: no fit is known for this time.
        """
        known = RERAM_US.get(float(t_s) or 1.0)
        if known is None:
            times = ", ".join(f"{time:g}" for time in self.known_times_s)
            raise ConfigError(f"t_s: got {t_s:g}; the ReRAM fit of Wan et al. is known at {times} s.")
        r = targets / self.g_max_us
        sigma = sum((c * r**power for power, c in enumerate(known)), torch.zeros_like(r))
        return sigma.clamp_(min=0.0) * (self.noise * self.g_max_us / 40.0)

    def conductances(self, targets: Tensor, generator: torch.Generator, t_s: float, read: torch.Generator) -> Tensor:
        """Return the targets with their spread at this time; see `Conductance.conductances`."""
        del read
        return (targets + self.spread(targets, t_s) * normal_like(targets, generator)).clamp_(min=0.0)


class DeviceTable(Conductance):
    """The user's own devices: mean and standard deviation of the conductance over the target, interpolated.

    `rows` are (r, mean, std), all in units of g_max, r rising from 0 to 1; `path` reads them from a CSV file with the
    columns r, mean, std.
    """

    kind: Literal["table"] = "table"
    rows: tuple[tuple[float, float, float], ...] = ()
    path: str | None = Field(None, description="CSV file with the columns r, mean, std; read once, into rows")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("path"):
            return {**{k: v for k, v in fields.items() if k != "path"}, "rows": _table(fields["path"])}
        return fields

    @model_validator(mode="after")
    def _check(self) -> DeviceTable:
        targets = [r for r, _, _ in self.rows]
        if len(targets) < 2 or targets[0] != 0 or targets[-1] != 1 or sorted(set(targets)) != targets:
            raise ValueError("rows need at least two targets r, rising from 0 to 1")
        if min(std for _, _, std in self.rows) < 0 or min(mean for _, mean, _ in self.rows) < 0:
            raise ValueError("mean and std of a row must not be negative")
        return self

    @property
    def ages(self) -> bool:
        """Return whether conductances change with time: a table knows one time only."""
        return False

    def scaled(self, factor: float) -> DeviceModel:
        """Return the table with `factor` times its standard deviations."""
        return self.model_copy(update={"rows": tuple((r, mean, std * factor) for r, mean, std in self.rows)})

    def conductances(self, targets: Tensor, generator: torch.Generator, t_s: float, read: torch.Generator) -> Tensor:
        """Return the interpolated mean with its spread; see `Conductance.conductances`."""
        del t_s, read
        r, mean, std = np.array(self.rows).T
        at = (targets / self.g_max_us).cpu().numpy()
        means, spreads = (torch.from_numpy(np.interp(at, r, values)).to(targets) for values in (mean, std))
        return (means + spreads * normal_like(targets, generator)).clamp_(min=0.0) * self.g_max_us


def _table(path: object) -> list[tuple[float, ...]]:
    try:
        lines = io.StringIO(read_text(str(path), CONFIGURATION), newline="")
        return [tuple(float(row[name]) for name in ("r", "mean", "std")) for row in csv.DictReader(lines)]
    except OSError as error:
        raise ValueError(
            f"cannot read {path} ({error.strerror}); give a CSV file with the columns r, mean, std"
        ) from None
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no table of numbers with the columns r, mean, std ({error})") from None
