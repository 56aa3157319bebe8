"""The same crossbar for aihwkit; the numbers of both are compared by `make aihwkit-check`."""

import pytest

from cimenv.core.errors import ConfigError
from cimenv.crossbar import CrossbarConfig
from cimenv.crossbar.aihwkit import to_rpu_config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "pcm"}, "analog: got False"),
        ({"preset": "rasch2023", "device": {"kind": "log_normal"}}, "device: got 'log_normal'"),
        ({"preset": "rasch2023", "voltage_offset": 0.1}, "voltage_offset"),
        ({"preset": "rasch2023", "overrides": {"fc": {"adc_bits": 7}}}, "overrides"),
        ({"preset": "rasch2023", "device": {"kind": "pcm", "drift_variation": 2.0}}, "drift_variation"),
    ],
)
def test_what_the_kit_cannot_be_told(fields, message):
    with pytest.raises(ConfigError, match=message):
        to_rpu_config(CrossbarConfig(**fields))


def test_parameters_of_the_standard_set():
    pytest.importorskip("aihwkit")
    rpu = to_rpu_config(CrossbarConfig(preset="rasch2023", adc_bits=7))
    forward = rpu.forward
    assert (forward.inp_res, forward.out_res, forward.out_bound, forward.ir_drop) == (254, 126, 10.0, 1.0)
    assert (forward.w_noise, forward.out_noise, rpu.mapping.max_input_size) == (0.0175, 0.04, 512)
    assert rpu.noise_model.g_max == 25.0 and rpu.mapping.weight_scaling_columnwise
