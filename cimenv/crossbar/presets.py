"""Crossbars named after their source, as the fields that differ from the defaults."""

from __future__ import annotations

import copy
from typing import Any

from cimenv.core.errors import known_name

PRESETS: dict[str, dict[str, Any]] = {
    # exact devices, exact products: the digital network
    "ideal": {"device": {"kind": "ideal"}},
    # CorrectNet (DATE 2023): multiplicative log-normal variation, headline strength
    "lognormal": {"device": {"kind": "log_normal", "sigma": 0.5}},
    # worst-case line (ICCAD 2022): 8-bit weights on 2-bit devices, every device within 0.03 after write-verify
    "write_verify": {"device": {"kind": "bit_sliced_gaussian", "sigma": 0.015, "write_verify": 0.03}},
    # aihwkit's PCM devices alone: products are exact
    "pcm": {"device": {"kind": "pcm"}},
    # Wan et al., Nature 608 (2022): ReRAM devices alone
    "reram_wan2022": {"device": {"kind": "reram_wan2022"}},
    # Rasch et al., Nature Communications 14:5282 (2023): PCM and the whole chain, arrays of 512 inputs
    "rasch2023": {
        "device": {"kind": "pcm"},
        "analog": True,
        "max_inputs": 512,
        "dac_bits": 8,
        "adc_bits": 8,
        "adc_bound": 10.0,
        "output_noise": 0.04,
        "read_noise": 0.0175,
        "ir_drop": 1.0,
    },
}


def preset_fields(name: str) -> dict[str, Any]:
    """Return the fields of a preset.

    Raises:
        UnknownNameError: no such preset.
    """
    return copy.deepcopy(PRESETS[known_name("crossbar preset", name, PRESETS)])
