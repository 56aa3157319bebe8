"""Floor 1: the physics of the crossbar: devices, mapping, chips, batch-norm recalibration."""

from cimenv.crossbar.array import AnalogArray, mvm, program_array
from cimenv.crossbar.batchnorm import batch_statistics, calibrated_for_chip, recalibrate_shared, shared_statistics
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.conductance import DeviceTable, Pcm, Reram
from cimenv.crossbar.config import CrossbarConfig, preset
from cimenv.crossbar.devices import BitSlicedGaussian, Gaussian, Ideal, LogNormal, Stuck
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.interception import observed, programmed
from cimenv.crossbar.layers import AnalogWeight
from cimenv.crossbar.mapping import MappedNetwork, map_network
from cimenv.crossbar.report import MappingReport, Unmapped
from cimenv.crossbar.saturation import Saturation, saturation
from cimenv.crossbar.sites import Site

__all__ = [
    "AnalogArray",
    "AnalogWeight",
    "BitSlicedGaussian",
    "Chips",
    "CrossbarConfig",
    "DeviceTable",
    "Gaussian",
    "Ideal",
    "LogNormal",
    "MappedNetwork",
    "MappingReport",
    "Pcm",
    "Reram",
    "Saturation",
    "Site",
    "Stuck",
    "Unmapped",
    "batch_statistics",
    "calibrated_for_chip",
    "explicit",
    "map_network",
    "mvm",
    "observed",
    "preset",
    "program_array",
    "programmed",
    "recalibrate_shared",
    "saturation",
    "shared_statistics",
]
