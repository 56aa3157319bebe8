"""Input ranges of analog arrays, from images of the clean network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.interception import SiteCall, observed
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.operations import Convolution, convolution_matrix_inputs
from cimenv.crossbar.sites import Site

CALIBRATION_BLOCK, CALIBRATION_VALUES = 250, 100_000


def calibrated_ranges(
    model: nn.Module,
    sites: Sequence[Site],
    config: CrossbarConfig,
    images: Tensor,
    quantile: float,
    origins: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the input range of every tile of every site, `[tiles]`: a quantile of |x| over images.

    Args:
        model: the clean network; it is left as it was.
        sites: its sites.
        config: the crossbar.
        images: `[n, ...]`, normalised.
        quantile: share of the inputs that a range covers.
        origins: see `StoredWeights`.

    Raises:
        MappingError: a site is never used.
    """
    seen: dict[str, list[list[Tensor]]] = {site.name: [] for site in sites}
    shapes = {site.name: site.weight_shape for site in sites}

    def record(call: SiteCall) -> Tensor:
        x, most = call.x.detach(), config.at(call.site).max_inputs
        if not x.numel():  # an expert that none of the images is routed to
            return call.outputs()
        if isinstance(call.operation, Convolution):
            parts = convolution_matrix_inputs(call.operation, x, shapes[call.site][2:], most)
        else:
            parts = call.operation.matrix_inputs(x, most)
        seen[call.site].append(
            [sampled(part.abs()) if quantile < 1 else part.abs().amax().reshape(1) for part in parts]
        )
        return call.outputs()

    with torch.no_grad(), evaluating(model), observed(model, sites, record, origins):
        for block in images.split(CALIBRATION_BLOCK):
            model(block)
    for name, calls in seen.items():
        if not calls:
            raise MappingError(
                f"Layer {name} is never called with these images; "
                f"give others, or keep it digital with crossbar.digital: ['{name}']."
            )
    tiles = {name: zip(*calls, strict=True) for name, calls in seen.items()}
    return {name: torch.stack([_range(parts, quantile) for parts in each]) for name, each in tiles.items()}


def sampled(values: Tensor) -> Tensor:
    """Return at most CALIBRATION_VALUES of some values, the same at every call: a quantile needs no more."""
    if len(values) <= CALIBRATION_VALUES:
        return values.clone()
    draws = torch_generator("calibration", len(values))
    return values[torch.randint(len(values), (CALIBRATION_VALUES,), generator=draws).to(values.device)]


def _range(parts: Sequence[Tensor], quantile: float) -> Tensor:
    values = torch.cat(list(parts)).sort().values
    bound = values[min(len(values) - 1, int(quantile * len(values)))]
    return torch.where(bound > 0, bound, torch.ones_like(bound))
