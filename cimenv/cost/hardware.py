"""Energy, area and latency of the crossbar and of the digital blocks, from the table's constants.

Per MVM of one tile: `E = cycles * (n_in * E_driver + E_array + columns * (E_adc + E_shift_add))`. The high end of a
range is ISAAC's scheme (1-bit inputs over `dac_bits` cycles, 2-bit cells, one conversion per cycle and column), the
low end one multi-bit conversion per MVM with NeuroSim's converter. Unused rows and columns of a tile are switched
off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cimenv.compensation.options import BlockOption, added_macs, added_weights
from cimenv.core.errors import MappingError
from cimenv.cost import table as t
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site

COST_TERMS = ("weights", "macs", "energy", "area", "latency")
BITS = 8  # of a converter that is not simulated


@dataclass(frozen=True)
class Range:
    """A quantity known only within a range."""

    low: float = 0.0
    high: float = 0.0

    @property
    def middle(self) -> float:
        """Return the geometric mean, with which ranges enter the scalar cost."""
        return math.sqrt(self.low * self.high)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Cost:
    """Absolute cost of one inference.

    Attributes:
        weights: stored weights.
        macs: multiply-accumulates.
        energy_pj: energy in pJ.
        area_mm2: area in mm^2.
        latency_us: time in microseconds, layers one after another.
    """

    weights: int = 0
    macs: int = 0
    energy_pj: Range = Range()
    area_mm2: Range = Range()
    latency_us: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.weights + other.weights,
            self.macs + other.macs,
            self.energy_pj + other.energy_pj,
            self.area_mm2 + other.area_mm2,
            self.latency_us + other.latency_us,
        )


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
    return Range(low * scale, high * _cycles(config) * scale)


def _cycles(config: CrossbarConfig) -> int:
    """Return the 1-bit input cycles of one MVM; a converter that is switched off costs as one of 8 bits."""
    return config.dac_bits or BITS


def _adc_pj(config: CrossbarConfig) -> float:
    """Return the energy of one conversion; beyond the table's 4 to 10 bits that of the nearest."""
    return t.ISAAC_ADC_PJ[min(max(config.adc_bits or BITS, min(t.ISAAC_ADC_PJ)), max(t.ISAAC_ADC_PJ))]


def site_cost(site: Site, config: CrossbarConfig) -> Cost:
    """Return what one mapped layer costs on the crossbar."""
    config = config.at(site.name)
    rows, columns = site.fan_in, site.out_channels // site.groups
    tile_rows = config.max_inputs or rows
    one = matrix_energy_pj(rows, columns, config)
    times = site.positions * site.groups
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
    used = min(columns * cells, config.tile_columns)
    cycle_ns = max(t.ISAAC_READ_NS, used / t.ISAAC_ADC_PER_NS)
    return Cost(
        weights=site.weights,
        macs=site.macs,
        energy_pj=Range(one.low * times, one.high * times),
        area_mm2=Range(area, area),
        latency_us=site.positions * cycle_ns * _cycles(config) / 1e3,
    )


def backbone_cost(sites: Iterable[Site], config: CrossbarConfig) -> Cost:
    """Return what the mapped backbone costs."""
    return sum((site_cost(site, config) for site in sites), Cost())


def block_cost(option: BlockOption | None, site: Site, config: CrossbarConfig) -> Cost:
    """Return what a block adds at a site.

    Digital int8 arithmetic; each weight is read from SRAM once per image (low) or once per use (high). `affine` adds
    storage only: the digital periphery scales and shifts every output anyway. `digital` is charged in full; the energy
    its crossbar layer no longer needs is not credited.
    """
    if option is None:
        return Cost()
    weights, macs = added_weights(option, site), added_macs(option, site)
    scale = t.ENERGY_BY_NODE[config.technology_nm] / t.ENERGY_BY_NODE[t.DIGITAL_NODE_NM]
    arithmetic = macs * (t.INT8_MULTIPLY_PJ + t.INT32_ADD_PJ) * scale
    read = t.SRAM_64BIT_READ_PJ / 8 * scale
    shrink = (config.technology_nm / t.DIGITAL_NODE_NM) ** 2
    storage = weights * 8 * t.SRAM_BIT_UM2 * shrink / 1e6
    units = t.MACS_PER_CYCLE * t.MAC_UNIT_UM2 * shrink / 1e6 if macs else 0.0
    energy = Range(arithmetic + weights * read, arithmetic + weights * site.positions * read) if macs else Range()
    return Cost(
        weights=weights,
        macs=macs,
        energy_pj=energy,
        area_mm2=Range(storage, storage + units),
        latency_us=math.ceil(macs / t.MACS_PER_CYCLE) / t.DIGITAL_GHZ / 1e3,
    )


def placement_cost(blocks: Sequence[BlockOption | None], sites: Sequence[Site], config: CrossbarConfig) -> Cost:
    """Return what all blocks of a placement add."""
    pairs = zip(blocks, sites, strict=True)
    return sum((block_cost(option, site, config) for option, site in pairs), Cost())


def shares(added: Cost, backbone: Cost) -> dict[str, float]:
    """Return each term as what the blocks add over what the backbone has; ranges at their geometric mean.

    Raises:
        MappingError: blocks add to a term of which the backbone has nothing: it was mapped without its input shape.
    """
    terms = {
        "weights": (added.weights, backbone.weights),
        "macs": (added.macs, backbone.macs),
        "energy": (added.energy_pj.middle, backbone.energy_pj.middle),
        "area": (added.area_mm2.middle, backbone.area_mm2.middle),
        "latency": (added.latency_us, backbone.latency_us),
    }
    for name, (more, whole) in terms.items():
        if more and not whole:
            raise MappingError(
                f"{name}: the mapped network has none, so that blocks add no share of it; map it with its input shape."
            )
    return {name: more / whole if more else 0.0 for name, (more, whole) in terms.items()}


def explained(terms: Mapping[str, float]) -> str | None:
    """Return one sentence where blocks take more area than the whole backbone; None elsewhere."""
    if terms["area"] <= 1:
        return None
    return (
        f"An area of {terms['area']:.0%} is no mistake: blocks keep their weights in SRAM and each has multipliers of "
        "its own, which are far larger than the devices that hold the backbone's weights."
    )


def scalar(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted sum of cost shares."""
    return sum(weight * terms[name] for name, weight in weights.items())
