"""Chips: Monte-Carlo draws of all weights, which do not depend on earlier draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cimenv.core.global_state import own_torch_state
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.device import checked_time
from cimenv.crossbar.layers import ProgrammedWeight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.sites import Site


@dataclass(frozen=True)
class Chips:
    """The chips of one split of one backbone: common random numbers over all placements.

    The draw of (chip, site) depends on `seed`, `split`, the site's name and the chip's number alone: not on how many
    chips exist, on the order of calls, the batch size or the process. The same theta serves every sigma.

    Attributes:
        network: the mapped network; its weights are read whenever a chip is asked for.
        seed: the task's chip seed.
        split: `train`, `val` or `test`: validation and test chips differ.
        t_s: time after programming in seconds.
    """

    network: MappedNetwork
    seed: int
    split: str
    t_s: float = 0.0

    @own_torch_state()
    def weights(self, site: str, chip: int) -> ProgrammedWeight:
        """Return the programmed weight of one site on one chip, at the chips' time."""
        programming, reading = self._generator("program", site, chip), None
        if self.network.config.at(site).device.ages:
            reading = self._generator("reading", site, chip, self.t_s)
        with torch.no_grad():
            return self.network.program_site(self._sites[site], programming, t_s=self.t_s, read=reading)

    def all_weights(self, chip: int) -> dict[str, ProgrammedWeight]:
        """Return the programmed weights of every site on one chip."""
        return {site: self.weights(site, chip) for site in self._sites}

    def read_generator(self, site: str, chip: int, image_block: int, call: int = 0) -> torch.Generator:
        """Return the generator of the read noise of one call of a site on one chip, for one block of images."""
        return self._generator("read", site, chip, image_block, call, self.t_s)

    @cached_property
    def _sites(self) -> dict[str, Site]:
        return {site.name: site for site in self.network.sites}

    def at(self, t_s: float) -> Chips:
        """Return the same programmed chips, `t_s` seconds after programming.

        Raises:
            ConfigError: `t_s` is negative.
        """
        return replace(self, t_s=checked_time(t_s))

    def _generator(self, purpose: str, site: str, *numbers: float) -> torch.Generator:
        return torch_generator("chip", purpose, self.seed, self.split, site, *numbers)
