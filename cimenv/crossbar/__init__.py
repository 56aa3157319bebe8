"""Floor 1: the physics of the crossbar: devices, mapping, chips, batch-norm recalibration."""

from cimenv.crossbar.batchnorm import batch_statistics, calibrated_for_chip, recalibrate_shared
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.devices import BitSlicedGaussian, Gaussian, Ideal, LogNormal
from cimenv.crossbar.mapping import MappedNetwork, Site, map_network, programmed

__all__ = [
    "BitSlicedGaussian",
    "Chips",
    "CrossbarConfig",
    "Gaussian",
    "Ideal",
    "LogNormal",
    "MappedNetwork",
    "Site",
    "batch_statistics",
    "calibrated_for_chip",
    "map_network",
    "programmed",
    "recalibrate_shared",
]
