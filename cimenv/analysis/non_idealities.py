"""The parts of an analog crossbar that are raised one at a time, and the error that each gives one standard matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from cimenv.core.errors import known_name
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.array import program_array
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.converters import step_size

TILE, SPREAD, VECTORS = 512, 0.246, 200  # the standard matrix of the acceptance test, and its inputs


@dataclass(frozen=True)
class NonIdeality:
    """One part of the crossbar that is raised.

    Attributes:
        what: for readers.
        low: a strength that does no harm.
        high: a strength that ruins any network.
        config: fields of the crossbar at a strength.
        reached: the strength that is really set, where not every one can be.
    """

    what: str
    low: float
    high: float
    config: Callable[[float], Mapping[str, Any]]
    reached: Callable[[float], float] = float


def _pcm(**scales: float) -> dict[str, Any]:
    none = {"programming_noise": 0.0, "drift": 0.0, "drift_variation": 0.0, "read_noise": 0.0}
    return {"device": {"kind": "pcm", **none, **scales}}


def _stuck(**shares: float) -> dict[str, Any]:
    return {"device": {"kind": "stuck", "device": {"kind": "ideal"}, **shares}}


def _bits(step: float) -> int:
    """Return the bits of a converter whose step is at most this share of its bound."""
    return max(2, min(16, math.ceil(math.log2(2.0 / step + 2))))


def _step(step: float) -> float:
    """Return the step of the converter that `_bits` chooses, as a share of its bound."""
    return step_size(_bits(step), 1.0)


NON_IDEALITIES: dict[str, NonIdeality] = {
    "programming_noise": NonIdeality("PCM programming noise, scale", 1e-2, 30, lambda s: _pcm(programming_noise=s)),
    "device_read_noise": NonIdeality("PCM 1/f noise, scale", 1e-2, 100, lambda s: _pcm(read_noise=s)),
    "weight_noise": NonIdeality(
        "Gaussian weight noise, share of the row's largest",
        1e-3,
        1,
        lambda s: {"device": {"kind": "gaussian", "sigma": s}},
    ),
    "stuck_at_zero": NonIdeality("share of devices stuck at zero", 1e-4, 0.9, lambda s: _stuck(at_zero=s)),
    "stuck_at_max": NonIdeality("share of devices stuck at the largest", 1e-5, 0.5, lambda s: _stuck(at_max=s)),
    "input_noise": NonIdeality("noise of inputs, share of the range", 1e-3, 2, lambda s: {"input_noise": s}),
    "output_noise": NonIdeality("noise of outputs, largest weight x input", 1e-3, 10, lambda s: {"output_noise": s}),
    "read_noise": NonIdeality("read noise of devices", 1e-3, 5, lambda s: {"read_noise": s}),
    "ir_drop": NonIdeality("IR drop, scale", 1e-1, 300, lambda s: {"ir_drop": s}),
    "s_shape": NonIdeality("S-shaped saturation nl", 1e-2, 100, lambda s: {"s_shape": s}),
    "voltage_offset": NonIdeality("voltage offset, share of the range", 1e-4, 1, lambda s: {"voltage_offset": s}),
    "dac_step": NonIdeality("step of inputs, share of the range", 1e-4, 1, lambda s: {"dac_bits": _bits(s)}, _step),
    "adc_step": NonIdeality("step of outputs, share of the bound", 1e-4, 1, lambda s: {"adc_bits": _bits(s)}, _step),
}


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names.

    Raises:
        UnknownNameError: one of them is no non-ideality.
    """
    for name in (checked := tuple(names)):
        known_name("non-ideality", name, NON_IDEALITIES)
    return checked


def crossbar(name: str, strength: float, base: CrossbarConfig) -> CrossbarConfig:
    """Return an analog crossbar with this non-ideality alone, and the array geometry of `base`."""
    plain = {"device": {"kind": "ideal"}, "analog": True, "dac_bits": 0, "adc_bits": 0}
    geometry = {"max_inputs": base.max_inputs, "adc_bound": base.adc_bound}
    return CrossbarConfig(**{**plain, **geometry, **NON_IDEALITIES[name].config(strength)})


@lru_cache(maxsize=1)
def _standard_matrix() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the matrix and inputs of the acceptance test: N(0, 0.246^2) clipped to 1; uniform, half of them 0."""
    draws = torch_generator("standard matrix")
    w = (SPREAD * torch.randn(TILE, TILE, generator=draws)).clamp_(-1, 1)
    x = (torch.rand(VECTORS, TILE, generator=draws) * 2 - 1) * (torch.rand(VECTORS, TILE, generator=draws) < 0.5)
    return w, x


def mvm_error(config: CrossbarConfig) -> float:
    """Return the mean relative error |y - W x| / |W x| of the standard 512 x 512 matrix on one array."""
    w, x = _standard_matrix()
    draws = torch_generator("standard matrix", "chip")
    whole = config.model_copy(update={"max_inputs": TILE})
    y, exact = program_array(w, whole, draws).mvm(x, 1.0, draws), x @ w.T
    return float(((y - exact).norm(dim=1) / exact.norm(dim=1)).mean())
