"""The crossbar chain and its devices against arrays from IBM's aihwkit 1.2.0; golden/README.md has the tolerances."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cimenv.core.errors import ConfigError, DataError
from cimenv.crossbar import CrossbarConfig, Ideal, Pcm, Reram, mvm, program_array

GOLDEN = np.load(Path(__file__).parent / "golden/aihwkit_reference.npz")
STANDARD = {"adc_bound": 10.0, "output_noise": 0.04, "read_noise": 0.0175, "ir_drop": 1.0, "max_inputs": 512}


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def bits(steps):
    return round(np.log2(steps + 2))


def chain(case, **changes):
    """Return configuration and input range of a deterministic case."""
    alpha, dac_steps, dac_bound, adc_steps, adc_bound, ir_drop, nl, max_inputs = map(float, GOLDEN[f"{case}_params"])
    assert dac_bound == 1.0
    fields = {"dac_bits": bits(dac_steps), "adc_bits": bits(adc_steps), "adc_bound": adc_bound, "ir_drop": ir_drop}
    config = CrossbarConfig(device=Ideal(), s_shape=nl, max_inputs=int(max_inputs), **{**fields, **changes})
    return config, alpha, 2 * adc_bound / adc_steps


@pytest.mark.parametrize("case", ["a1", "a2", "b1", "c1", "d1", "k1"])
def test_every_adc_code_of_the_deterministic_chain_is_the_kits(case):
    config, alpha, step = chain(case)
    y = mvm(golden(f"{case}_x"), golden(f"{case}_weight"), config, input_range=alpha)
    if f"{case}_bias" in GOLDEN:
        y = y + golden(f"{case}_bias")
    array = program_array(golden(f"{case}_weight"), config)
    lsb = sum(alpha * tile.row_scale * step for tile in array.tiles)
    assert int(((y - golden(f"{case}_y")).abs() > 1e-4 * lsb).sum()) == 0  # of 64 x out outputs


@pytest.mark.parametrize("case", ["b1", "c1"])
def test_the_chain_in_front_of_the_adc(case):
    config, alpha, _ = chain(case, adc_bits=None)
    y, reference = (
        mvm(golden(f"{case}_x"), golden(f"{case}_weight"), config, input_range=alpha),
        golden(f"{case}_y_no_adc"),
    )
    assert float((y - reference).abs().max()) <= 1e-5 * float(reference.abs().max())


def moments_agree(values, case, index):
    """Hold mean and std of own devices to those of the kit's million, by five standard errors."""
    mean, std, kurtosis = (float(GOLDEN[f"{case}_{what}"][index]) for what in ("mean", "std", "kurtosis"))
    spread = 1 / values.numel() + 1 / int(GOLDEN["e1_devices"][0])
    assert abs(float(values.double().mean()) - mean) <= 5 * std * spread**0.5
    assert abs(float(values.double().std()) / std - 1) <= 5 * ((kurtosis - 1) / 4 * spread) ** 0.5


@pytest.mark.parametrize("level", range(8))
def test_pcm_devices_have_the_kits_moments(level):
    device, draws = Pcm(), torch.Generator().manual_seed(level)
    targets = torch.full((200_000,), float(GOLDEN["e1_r"][level]) * 25.0)
    moments_agree(device.programmed(targets, draws), "e1_prog", level)
    moments_agree(device.exponents(targets, draws), "e1_nu", level)
    for k, t_s in enumerate(GOLDEN["e1_times"]):
        moments_agree(device.conductances(targets, draws, float(t_s), draws), "e1_g", (level, k))


@pytest.mark.parametrize(("case", "row_scaling"), [("f_direct", False), ("f_columnwise", True)])
def test_mvm_error_of_a_tile_over_time(case, row_scaling):
    """3 % of the kit's mean where the pair is kept (golden/README.md), over six programmings."""
    errors = []
    for repeat in range(6):
        draws = torch.Generator().manual_seed(repeat)
        w = (0.246 * torch.randn(512, 512, generator=draws)).clamp(-1, 1)
        w.view(-1)[w.abs().argmax()] = w.view(-1)[w.abs().argmax()].sign()
        x = (torch.rand(400, 512, generator=draws) * 2 - 1) * (torch.rand(400, 512, generator=draws) < 0.5)
        exact, row = x @ w.T, []
        for t_s in GOLDEN["f_times"]:
            device = Ideal() if t_s < 0 else Pcm()
            config = CrossbarConfig(device=device, row_scaling=row_scaling, **STANDARD)
            devices, read = torch.Generator().manual_seed(100 + repeat), torch.Generator().manual_seed(200 + repeat)
            array = program_array(w, config, devices, t_s=max(float(t_s), 0.0), read=read)
            y = array.mvm(x, 1.0, read)
            row.append(float(((y - exact).norm(dim=1) / exact.norm(dim=1)).mean()))
        errors.append(row)
    np.testing.assert_allclose(np.mean(errors, 0), GOLDEN[f"{case}_mean"], rtol=0.03)


def test_read_and_output_noise_have_the_kits_spread():
    w, x, reference = golden("g_weight"), golden("g_x"), golden("g_y")
    alpha, read_noise, output_noise, _ = map(float, GOLDEN["g_params"])
    repeats = 20_000
    base = CrossbarConfig(device=Ideal(), adc_bits=None, max_inputs=512)
    y = mvm(x, w, base, input_range=alpha)
    assert float((y - reference).abs().max()) <= 1e-5 * float(reference.abs().max())
    for name, fields in {
        "read": {"read_noise": read_noise},
        "out": {"output_noise": output_noise},
        "both": {"read_noise": read_noise, "output_noise": output_noise},
    }.items():
        config = base.model_copy(update=fields)
        draws = torch.Generator().manual_seed(0)
        noisy = mvm(x.expand(repeats, *x.shape), w, config, input_range=alpha, generator=draws)
        ours, theirs = noisy.std(0), golden(f"g_{name}_std")
        known = theirs > 0
        assert float(ours[~known].abs().max() if bool((~known).any()) else 0.0) == 0.0
        ratio = ours[known] / theirs[known]
        sampling = 5 / (2 * repeats) ** 0.5
        assert float((ratio - 1).abs().max()) <= 0.015 + sampling
        assert abs(float(ratio.mean()) - 1) <= 0.003 + sampling / 10


def test_global_drift_compensation():
    factors = []
    config = CrossbarConfig(device=Pcm(), row_scaling=False, **STANDARD)
    for chip in range(40):
        row = []
        for t_s in GOLDEN["h_times"]:
            devices, read = torch.Generator().manual_seed(chip), torch.Generator().manual_seed(1_000 + chip)
            (tile,) = program_array(golden("h_weight"), config, devices, t_s=float(t_s), read=read).tiles
            row.append(float(tile.gain))
        factors.append(row)
    np.testing.assert_allclose(np.mean(factors, 0), GOLDEN["h_factor_mean"], rtol=0.015)
    ratio = np.std(factors, axis=0, ddof=1) / GOLDEN["h_factor_std"]
    assert np.all((ratio < 1.6) & (ratio > 1 / 1.6))


def test_reram_spread_scales_with_the_largest_conductance():
    device = Reram(g_max_us=float(GOLDEN["i_g_max"][0]))
    for k, t_s in enumerate(GOLDEN["i_times"]):
        ours = device.spread(golden("i_r") * device.g_max_us, float(t_s))
        np.testing.assert_allclose(ours.numpy(), GOLDEN["i_sigma_scaled"][k], rtol=1e-5)
    with pytest.raises(ConfigError, match="known at 0, 1, 86400, 172800 s"):
        device.spread(golden("i_r"), 3600.0)


def test_every_tile_holds_the_same_devices_at_any_time():
    w = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    config = CrossbarConfig(device=Pcm(read_noise=0, drift_variation=0), **{**STANDARD, "max_inputs": 20})

    def tiles(t_s):
        read = torch.Generator().manual_seed(int(t_s))
        return program_array(w, config, torch.Generator().manual_seed(1), t_s=t_s, read=read).tiles

    for fresh, hour, day in zip(tiles(0.0), tiles(3_600.0), tiles(86_400.0), strict=True):
        strong = fresh.weights.abs() > 0.4  # both devices drift alike above r = .3, where the smaller one is off
        for later, t_s in ((hour, 3_600.0), (day, 86_400.0)):
            ratio = (later.weights / fresh.weights)[strong]
            assert float((ratio - ((t_s + 20) / 20) ** -0.049).abs().max()) < 0.03


def test_without_row_scales_a_tile_is_held_by_its_largest_weight():
    w, x = golden("g_weight"), golden("g_x")
    config = CrossbarConfig(device=Ideal(), row_scaling=False, output_noise=0.04, max_inputs=512)
    one, tenth = (
        mvm(x, scale * w, config, input_range=1.4, generator=torch.Generator().manual_seed(0)) for scale in (1.0, 0.1)
    )
    torch.testing.assert_close(one, 10 * tenth, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_learned_ranges_passes_the_converters():
    """Every tile: alpha * (sum_{x >= alpha} min(d, 0) - sum_{x <= -alpha} max(d, 0)), d the input's gradient."""
    draws = torch.Generator().manual_seed(0)
    w, x = torch.randn(5, 16, generator=draws), torch.randn(30, 16, generator=draws)
    alpha = torch.tensor([0.8, 1.1], requires_grad=True)
    config = CrossbarConfig(device=Ideal(), max_inputs=8, adc_bits=0)
    y = program_array(w, config).mvm(x, alpha)
    weight = torch.randn(y.shape, generator=draws)
    (y * weight).sum().backward()
    d = weight @ w  # the chain is linear but for its rounding, which passes gradients
    for tile, a in enumerate(alpha.tolist()):
        own, slopes = x[:, 8 * tile : 8 * tile + 8], d[:, 8 * tile : 8 * tile + 8]
        expected = a * (slopes[own >= a].clamp(max=0).sum() - slopes[own <= -a].clamp(min=0).sum())
        assert float(alpha.grad[tile]) == pytest.approx(float(expected), rel=1e-4)
    with torch.no_grad():
        exact = program_array(w, config).mvm(x, alpha.detach())
    torch.testing.assert_close(y.detach(), exact, rtol=1e-6, atol=1e-6)


def test_what_is_drawn_needs_a_generator_and_shapes_must_fit():
    w = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="generator: got None"):
        mvm(torch.ones(3), w, CrossbarConfig(device=Pcm()), input_range=1.0)
    with pytest.raises(ConfigError, match="generator: got None"):
        mvm(torch.ones(3), w, CrossbarConfig(device=Ideal(), output_noise=0.1), input_range=1.0)
    with pytest.raises(ConfigError, match="input_range: got 0"):
        mvm(torch.ones(3), w, CrossbarConfig(device=Ideal()), input_range=0.0)
    with pytest.raises(DataError, match="4 features; the matrix takes 3"):
        mvm(torch.ones(4), w, CrossbarConfig(device=Ideal()), input_range=1.0)
    with pytest.raises(DataError, match="give a matrix"):
        mvm(torch.ones(3), torch.ones(3), CrossbarConfig(device=Ideal()), input_range=1.0)
    with pytest.raises(ConfigError, match="2 values for 1 tiles"):
        mvm(torch.ones(3), w, CrossbarConfig(device=Ideal()), input_range=torch.ones(2))


def test_values_that_are_not_numbers_are_refused():
    x, w = torch.rand(2, 4), torch.rand(3, 4)
    for inputs, weights, name in ((x * float("nan"), w, "inputs"), (x, w / 0, "weights")):
        with pytest.raises(DataError, match=f"{name} hold NaN or infinity"):
            mvm(inputs, weights, CrossbarConfig(device=Ideal()), input_range=1.0)
