"""Energy of one inference, from the table's constants.

Per MVM of one tile: `E = cycles * (n_in * E_driver + E_array + columns * (E_adc + E_shift_add))`. The high end of a
range is ISAAC's scheme (1-bit inputs over `dac_bits` cycles, 2-bit cells, one conversion per cycle and column), the
low end one multi-bit conversion per MVM with NeuroSim's converter. Unused rows and columns of a tile are switched
off.
"""

from __future__ import annotations

import math

from cimenv.compensation.options import BlockOption, added_macs, added_weights
from cimenv.cost import table as t
from cimenv.cost.latency import BITS, cycles
from cimenv.cost.term import CostTerm, Range
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site


class Energy(CostTerm):
    """Energy of one inference, a range.

    Source: ISAAC (ISCA 2016) and NeuroSim for the crossbar, Horowitz (ISSCC 2014) for blocks.
    """

    name, unit, zero = "energy", "pJ", Range()

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> Range:
        """Return that of all MVMs of a mapped layer."""
        one = matrix_energy_pj(site.fan_in, site.out_channels // site.groups, config)
        times = site.positions * site.groups
        return Range(one.low * times, one.high * times)

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> Range:
        """Return that of a block's int8 arithmetic; each weight is read from SRAM once per image, or once per use."""
        weights, macs = added_weights(option, site), added_macs(option, site)
        scale = t.ENERGY_BY_NODE[config.technology_nm] / t.ENERGY_BY_NODE[t.DIGITAL_NODE_NM]
        arithmetic = macs * (t.INT8_MULTIPLY_PJ + t.INT32_ADD_PJ) * scale
        read = t.SRAM_64BIT_READ_PJ / 8 * scale
        return Range(arithmetic + weights * read, arithmetic + weights * site.positions * read) if macs else Range()


def matrix_energy_pj(rows: int, columns: int, config: CrossbarConfig) -> Range:
    """Return the energy of one MVM with a `columns x rows` weight matrix, split into tiles."""
    scale = t.ENERGY_BY_NODE[config.technology_nm] / t.ENERGY_BY_NODE[t.ISAAC_NODE_NM]
    cells = math.ceil(config.weight_bits / config.device_bits)
    per_cell = t.ISAAC_ARRAY_PJ / t.ISAAC_ARRAY_SIDE**2
    row_tiles = math.ceil(rows / (config.max_inputs or rows))
    device_columns = columns * cells
    column_tiles = math.ceil(device_columns / config.tile_columns)
    conversions = device_columns * row_tiles
    array_and_drivers = rows * device_columns * per_cell + rows * column_tiles * t.ISAAC_DRIVER_PJ
    adc = _adc_pj(config)
    low_adc = t.NEUROSIM_ADC_8BIT_PJ * adc / t.ISAAC_ADC_PJ[8]
    low = array_and_drivers + conversions * (low_adc + t.ISAAC_SHIFT_ADD_PJ)
    high = array_and_drivers + conversions * (adc + t.ISAAC_SHIFT_ADD_PJ)
    return Range(low * scale, high * cycles(config) * scale)


def _adc_pj(config: CrossbarConfig) -> float:
    """Return the energy of one conversion; beyond the table's 4 to 10 bits that of the nearest."""
    return t.ISAAC_ADC_PJ[min(max(config.adc_bits or BITS, min(t.ISAAC_ADC_PJ)), max(t.ISAAC_ADC_PJ))]
