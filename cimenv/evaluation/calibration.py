"""Batch norms that are calibrated for every chip, with the blocks of a placement in their place."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cimenv.compensation.bank import CompensationBank, site_weights
from cimenv.compensation.options import Placement
from cimenv.crossbar.batchnorm import calibrated_for_chip
from cimenv.crossbar.layers import ProgrammedWeight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.evaluation.engine import ChipModules


def chip_calibrator(network: MappedNetwork, bank: CompensationBank, images: Tensor) -> ChipModules:
    """Return a context that calibrates the batch norms of one chip.

    Args:
        network: whose batch norms.
        bank: the blocks of placements.
        images: training images, `[n, c, h, w]`.
    """
    nominal = network.weights()

    def calibrated(weights: Mapping[str, ProgrammedWeight], placement: Placement) -> Mapping[str, nn.Module]:
        here = site_weights(bank, placement, nominal, weights)
        return calibrated_for_chip(
            network.model,
            here,
            images,
            inserted=lambda model: bank.inserted(model, placement, network.origins),
            sites=network.sites,
        )

    return calibrated
