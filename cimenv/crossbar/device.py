"""What a device model is, and every one by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from cimenv.core.errors import ConfigError
from cimenv.core.registry import Registry
from cimenv.core.tagged import Tagged

LONGEST_S = 1e12  # 30,000 years; the fits of all devices are of seconds to a year


class DeviceModel(Tagged):
    """The devices of a crossbar: what they make of the weights that are written to them.

    A model of one's own is a subclass with a `kind`, its parameters as fields, and `program`; `scaled_fields` or
    `scaled` lets hardware-aware training make its noise stronger. Its docstring says where the model comes from, in a
    paragraph that begins with `Source:`.
    """

    kind: str
    scaled_fields: ClassVar[tuple[str, ...]] = ()  # to which the noise is proportional

    @classmethod
    def registry(cls) -> Registry[type[DeviceModel]]:
        """Return the registry of devices."""
        return DEVICES

    def program(
        self, w: Tensor, generator: torch.Generator, t_s: float = 0.0, read: torch.Generator | None = None
    ) -> Tensor:
        """Return one chip's weights at a time, in the unit of `w`; their gradient passes to `w`.

        Args:
            w: nominal weights of any shape.
            generator: draws the devices: the same state gives the same devices at any time.
            t_s: seconds after programming.
            read: draws what is new at every reading; default `generator`.
        """
        raise NotImplementedError

    @property
    def exact(self) -> bool:
        """Return whether programmed weights are the nominal ones, so that nothing is drawn."""
        return False

    @property
    def ages(self) -> bool:
        """Return whether weights change with time."""
        return False

    @property
    def known_times_s(self) -> tuple[float, ...] | None:
        """Return the times at which the model is known, or None where it is known at any time."""
        return None

    @property
    def relative_strength(self) -> float:
        """Return the standard deviation of dW relative to |W| or to full scale."""
        return 0.0

    @property
    def label(self) -> str:
        """Return a short name with the strength, for figures."""
        return self.kind

    def scaled(self, factor: float) -> DeviceModel:
        """Return the model with `factor` times its noise; the mean drift and stuck devices stay.

        Raises:
            ConfigError: the noise has no known scale.
        """
        if factor == 1.0:
            return self
        if not self.scaled_fields:
            raise ConfigError(
                f"noise_scale {factor:g} cannot scale the noise of device '{self.kind}'; set noise_scale=1, or give "
                "the class `scaled_fields`."
            )
        return self.model_copy(update={name: getattr(self, name) * factor for name in self.scaled_fields})

    def aihwkit_noise(self) -> Mapping[str, float] | None:
        """Return the arguments of aihwkit's `PCMLikeNoiseModel` for these devices, or None where they are exact.

        Raises:
            ConfigError: aihwkit has no counterpart.
        """
        raise ConfigError(f"device: got '{self.kind}'; to_rpu_config knows ideal and pcm.")


DEVICES: Registry[type[DeviceModel]] = Registry(
    "device",
    DeviceModel,
    {
        "ideal": "cimenv.crossbar.devices:Ideal",
        "log_normal": "cimenv.crossbar.devices:LogNormal",
        "gaussian": "cimenv.crossbar.devices:Gaussian",
        "bit_sliced_gaussian": "cimenv.crossbar.devices:BitSlicedGaussian",
        "pcm": "cimenv.crossbar.conductance:Pcm",
        "reram_wan2022": "cimenv.crossbar.conductance:Reram",
        "table": "cimenv.crossbar.conductance:DeviceTable",
        "stuck": "cimenv.crossbar.devices:Stuck",
    },
)


def checked_time(t_s: float) -> float:
    """Return a time after programming in seconds.

    Raises:
        ConfigError: it is negative, NaN, or beyond LONGEST_S.
    """
    if not 0 <= t_s <= LONGEST_S:
        raise ConfigError(f"t_s: got {t_s}; give a time of at least 0 seconds, and at most {LONGEST_S:g}.")
    return float(t_s)


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
    fresh = device.program(w.detach(), generator)
    generator.set_state(now)
    return fresh


def drift_gain(fresh: Tensor, aged: Tensor) -> Tensor:
    """Return by what factor of the outputs drift is compensated: mean|fresh| / mean|aged|, a scalar.

    Where nothing is left that a factor could bring back (no device holds anything), it is 1.
    """
    left = aged.detach().abs().mean()
    return torch.where(left > 0, fresh.abs().mean() / left, torch.ones_like(left))
