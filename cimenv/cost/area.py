"""Area of the crossbar's tiles and of the digital blocks, from the table's constants."""

from __future__ import annotations

import math

from cimenv.compensation.options import BlockOption, added_macs, added_weights
from cimenv.cost import table as t
from cimenv.cost.term import CostTerm, Range
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site


class Area(CostTerm):
    """Area of silicon, a range for blocks: SRAM alone, or with multipliers of their own.

    Source: ISAAC (ISCA 2016) for the crossbar; the areas of SRAM and multipliers are our own choice.
    """

    name, unit, zero = "area", "mm2", Range()

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> Range:
        """Return that of a mapped layer's tiles with their converters and drivers."""
        rows, columns = site.fan_in, site.out_channels // site.groups
        tile_rows = config.max_inputs or rows
        cells = math.ceil(config.weight_bits / config.device_bits)
        tiles = site.groups * math.ceil(rows / tile_rows) * math.ceil(columns * cells / config.tile_columns)
        share = tile_rows * config.tile_columns / t.ISAAC_ARRAY_SIDE**2
        per_tile = (
            t.ISAAC_ARRAY_UM2 * share
            + tile_rows * t.ISAAC_DRIVER_UM2
            + config.tile_columns * t.ISAAC_SAMPLE_HOLD_UM2
            + t.ISAAC_SHIFT_ADD_UM2
            + t.ISAAC_ADC_UM2
        ) * (config.technology_nm / t.ISAAC_NODE_NM) ** 2
        area = tiles * per_tile / 1e6
        return Range(area, area)

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> Range:
        """Return that of a block's SRAM, and of multipliers where it has MACs."""
        shrink = (config.technology_nm / t.DIGITAL_NODE_NM) ** 2
        storage = added_weights(option, site) * 8 * t.SRAM_BIT_UM2 * shrink / 1e6
        units = t.MACS_PER_CYCLE * t.MAC_UNIT_UM2 * shrink / 1e6 if added_macs(option, site) else 0.0
        return Range(storage, storage + units)
