"""Chips: Monte-Carlo draws of all weights, the same whatever was asked for before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cimenv.core.errors import ConfigError
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.devices import DeviceModel


@dataclass(frozen=True)
class Chips:
    """The chips of one split of one backbone: common random numbers over all placements.

    The draw of (chip, site) depends on `seed`, `split`, the site's name and the chip's number alone: not on how many
    chips exist, on the order of calls, the batch size or the process. The same theta serves every sigma.

    Attributes:
        nominal: trained weight of every site, by name.
        device: the device model.
        seed: the task's chip seed.
        split: `train`, `val` or `test`: validation and test chips differ.
        t_s: time after programming in seconds. The device models here do not drift.
    """

    nominal: Mapping[str, Tensor]
    device: DeviceModel
    seed: int
    split: str
    t_s: float = 0.0

    def weights(self, site: str, chip: int) -> Tensor:
        """Return the programmed weight of one site on one chip, in the nominal weight's shape."""
        with torch.no_grad():
            return self.device.program(self.nominal[site], self._generator("program", site, chip))

    def all_weights(self, chip: int) -> dict[str, Tensor]:
        """Return the programmed weights of every site on one chip."""
        return {site: self.weights(site, chip) for site in self.nominal}

    def read_generator(self, site: str, chip: int, image_block: int) -> torch.Generator:
        """Return the generator of the read noise of one site on one chip for one block of images."""
        return self._generator("read", site, chip, image_block)

    def at(self, t_s: float) -> Chips:
        """Return the same programmed chips, `t_s` seconds after programming.

        Raises:
            ConfigError: `t_s` is negative.
        """
        if not t_s >= 0:
            raise ConfigError(f"t_s: got {t_s}; give a time of at least 0 seconds.")
        return replace(self, t_s=t_s)

    def _generator(self, purpose: str, site: str, *numbers: int) -> torch.Generator:
        return torch_generator("chip", purpose, self.seed, self.split, site, *numbers)
