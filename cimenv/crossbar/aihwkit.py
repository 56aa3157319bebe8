"""The same crossbar for IBM's aihwkit, so that a network can be checked there. Needs `pip install aihwkit`."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from cimenv.core.errors import ConfigError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.converters import steps
from cimenv.crossbar.mapping import MappedNetwork


def to_rpu_config(config: CrossbarConfig) -> Any:
    """Return the `InferenceRPUConfig` with the parameters of an analog crossbar.

    Input ranges are the network's, not the crossbar's: `to_analog_model` sets them.

    Args:
        config: an analog crossbar with ideal or PCM devices, one input range a tile.

    Raises:
        ConfigError: aihwkit is not installed, or has no counterpart for a part that is switched on.
    """
    _check(config)
    try:
        from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
        from aihwkit.simulator.configs import InferenceRPUConfig
        from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType, WeightNoiseType
    except ImportError:
        raise ConfigError("aihwkit is not installed; pip install aihwkit, in an environment of its own.") from None
    rpu = InferenceRPUConfig()
    forward = rpu.forward
    forward.inp_bound = 1.0
    forward.inp_res = steps(config.dac_bits) if config.dac_bits else -1
    forward.inp_noise = config.input_noise
    forward.out_bound = config.adc_bound if config.adc_bits or config.s_shape else -1
    forward.out_res = steps(config.adc_bits) if config.adc_bits else -1
    forward.out_noise = config.output_noise
    forward.w_noise = config.read_noise
    forward.w_noise_type = WeightNoiseType.PCM_READ if config.read_noise else WeightNoiseType.NONE
    forward.ir_drop = config.ir_drop
    forward.out_nonlinearity = config.s_shape
    forward.out_nonlinearity_std = config.s_shape_spread
    forward.slope_calibration = config.s_shape_calibration
    forward.bound_management = BoundManagementType.NONE
    forward.noise_management = NoiseManagementType.NONE
    rpu.pre_post.input_range.enable = True
    rpu.mapping.weight_scaling_omega = 1.0
    rpu.mapping.weight_scaling_columnwise = config.row_scaling
    rpu.mapping.max_input_size = config.max_inputs or 0
    rpu.mapping.max_output_size = 0
    rpu.drift_compensation = GlobalDriftCompensation() if config.drift_compensation else None
    if (noise := config.device.aihwkit_noise()) is not None:
        rpu.noise_model = PCMLikeNoiseModel(**noise)
    return rpu


def to_analog_model(network: MappedNetwork) -> nn.Module:
    """Return a copy of a calibrated network on aihwkit's tiles, with the same input ranges, not yet programmed.

    Raises:
        ConfigError: as `to_rpu_config`.
    """
    rpu = to_rpu_config(network.config)
    from aihwkit.nn.conversion import convert_to_analog

    model = convert_to_analog(copy.deepcopy(network.model), rpu).eval()
    for name, layer in model.named_modules():
        if name in network.input_ranges:
            for tile, alpha in zip(layer.analog_tiles(), network.input_ranges[name], strict=True):
                tile.input_range.data.fill_(float(alpha))
    assert isinstance(model, nn.Module)
    return model


def _check(config: CrossbarConfig) -> None:
    """Refuse settings for which the kit has no counterpart."""
    if not config.analog:
        raise ConfigError("analog: got False; aihwkit simulates the whole chain, so switch it on.")
    config.device.aihwkit_noise()
    for field in ("dac", "adc"):
        if (kind := getattr(config, field)) != "uniform":
            raise ConfigError(f"{field}: got '{kind}'; to_rpu_config knows uniform converters.")
    for field in ("voltage_offset", "overrides"):
        if getattr(config, field):
            raise ConfigError(f"{field}: to_rpu_config has no counterpart; leave it off.")
