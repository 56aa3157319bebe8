"""How much the converters cut off: inputs beyond their range, outputs beyond the ADC's bound. Silent otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cimenv.core.errors import ConfigError
from cimenv.core.global_state import own_torch_state
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating

BLOCK = 125  # images at a time


@dataclass(frozen=True)
class Saturation:
    """Shares of a site's values that its converters cut off, over all tiles, images and calls.

    Attributes:
        clipped_inputs: of the values that were converted for the devices, those beyond the tile's input range.
        saturated_outputs: of the values that the ADC gave, those at its bound.
    """

    clipped_inputs: float
    saturated_outputs: float


@own_torch_state()
def saturation(network: MappedNetwork, images: Tensor, chip: Mapping[str, ProgrammedWeight]) -> dict[str, Saturation]:
    """Count what the converters of every site cut off on one chip without blocks.

    Args:
        network: mapped to an analog crossbar, with input ranges.
        images: `[n, ...]`, normalised.
        chip: programmed weights by site, from `network.program` or `Chips.all_weights`.

    Returns:
        One entry a site with converters, by name.

    Raises:
        ConfigError: no site of the crossbar is analog.
    """
    counts = {name: torch.zeros(4, dtype=torch.int64) for name, w in chip.items() if isinstance(w, AnalogWeight)}
    if not counts:
        raise ConfigError("analog: got False; a crossbar without converters cuts nothing off, so switch it on.")
    counted = {
        name: replace(weight, counts=counts[name]) if isinstance(weight, AnalogWeight) else weight
        for name, weight in chip.items()
    }
    with torch.inference_mode(), evaluating(network.model), network.programmed(counted) as model:
        for block in images.split(BLOCK):
            model(block)
    return {name: _shares(count) for name, count in counts.items()}


def _shares(counts: Tensor) -> Saturation:
    inputs, clipped, outputs, saturated = counts.tolist()
    return Saturation(clipped / max(inputs, 1), saturated / max(outputs, 1))
