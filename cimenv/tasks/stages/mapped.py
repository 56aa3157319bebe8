"""The mapped backbone's input ranges, and its shared batch-norm statistics."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from cimenv.crossbar.batchnorm import recalibrate_shared
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.tasks.stages.workspace import Workspace

RANGE_IMAGES = 1_000


def with_ranges(work: Workspace, network: MappedNetwork, ranges: dict[str, Tensor]) -> MappedNetwork:
    """Return the network with the input ranges that training found, else with calibrated ones."""
    if not network.analog:
        return network
    if ranges:
        return replace(network, input_ranges=ranges)
    return network.calibrated(work.data.train.inputs(slice(RANGE_IMAGES)))


def recalibrated(work: Workspace, network: MappedNetwork) -> MappedNetwork:
    """Return the network, its batch-norm statistics those over some training chips where the task shares them."""
    config, times = work.task.crossbar, work.task.times_s
    if config.batch_norm != "shared":
        return network
    chips = Chips(network, work.task.chip_seed, "train")
    images = work.data.train.inputs(slice(config.batch_norm_images))
    weights = (chips.at(times[k % len(times)]).all_weights(k) for k in range(config.batch_norm_chips))
    recalibrate_shared(network.model, weights, images, sites=network.sites)
    return network
