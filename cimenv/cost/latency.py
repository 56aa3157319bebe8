"""Time of one inference, layers one after another, from the table's constants."""

from __future__ import annotations

import math

from cimenv.compensation.options import BlockOption, added_macs
from cimenv.cost import table as t
from cimenv.cost.term import CostTerm
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site

BITS = 8  # of a converter that is not simulated


def cycles(config: CrossbarConfig) -> int:
    """Return the 1-bit input cycles of one MVM; a converter that is switched off costs as one of 8 bits."""
    return config.dac_bits or BITS


class Latency(CostTerm):
    """Time of one inference, layers one after another.

    Source: ISAAC (ISCA 2016) for the crossbar; the width and clock of the digital unit are our own choice.
    """

    name, unit, zero = "latency", "us", 0.0

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> float:
        """Return that of all MVMs of a mapped layer: a read, or the conversions of its columns, per input cycle."""
        columns = site.out_channels // site.groups * math.ceil(config.weight_bits / config.device_bits)
        used = min(columns, config.tile_columns)
        cycle_ns = max(t.ISAAC_READ_NS, used / t.ISAAC_ADC_PER_NS)
        return site.positions * cycle_ns * cycles(config) / 1e3

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> float:
        """Return that of a block's multiply-accumulates."""
        del config
        return math.ceil(added_macs(option, site) / t.MACS_PER_CYCLE) / t.DIGITAL_GHZ / 1e3
