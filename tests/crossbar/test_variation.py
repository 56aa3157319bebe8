import math

import pytest
import torch
from scipy import stats

from cimenv.crossbar import variation
from cimenv.crossbar.devices import BitSlicedGaussian, Gaussian, Ideal, LogNormal
from cimenv.crossbar.variation import censored_gaussian, censored_moments

# std(dW)/(S sigma) by (weight bits, device bits): closed form of the worst-case line's public code.
FACTORS = {(8, 1): 0.580, (8, 2): 0.778, (8, 4): 0.943, (6, 2): 0.787, (4, 2): 0.825, (8, 8): 1.0, (4, 4): 1.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_log_normal_moments_at_half():
    n = 2_000_000
    w = torch.full((n,), -2.0)
    factor = (variation.log_normal(w, 0.5, generator()) / w).double()
    assert variation.log_normal_moments(0.5) == pytest.approx((1.1331, 0.6039), abs=5e-5)
    assert factor.mean().item() == pytest.approx(1.1331, abs=5 * 0.6039 / n**0.5 + 5e-5)
    kurtosis = 3 + float(stats.lognorm.stats(0.5, moments="k"))
    assert factor.std().item() == pytest.approx(0.6039, abs=5 * 0.6039 * ((kurtosis - 1) / (4 * n)) ** 0.5 + 5e-5)
    density_at_median = 1 / (0.5 * math.sqrt(2 * math.pi))
    assert factor.median().item() == pytest.approx(1.0, abs=5 / (2 * density_at_median * n**0.5))
    theta = factor.log()
    assert theta.std().item() == pytest.approx(0.5, abs=5 * 0.5 / (2 * n) ** 0.5)


def test_log_normal_keeps_the_sign_and_zero():
    w = torch.randn(10_000, generator=generator(1))
    w[:100] = 0
    out = variation.log_normal(w, 0.5, generator())
    assert torch.equal(out.sign(), w.sign())


def test_log_normal_gradient_is_the_factor():
    w = torch.full((1_000,), 2.0, requires_grad=True)
    out = variation.log_normal(w, 0.5, generator())
    out.sum().backward()
    assert torch.allclose(w.grad, out.detach() / 2.0)


@pytest.mark.parametrize(("bits", "factor"), FACTORS.items())
def test_bit_slicing_factor_closed_form_and_empirical(bits, factor):
    m, k = bits
    assert variation.bit_slicing_factor(m, k) == pytest.approx(factor, abs=5e-4)
    n, sigma, full_scale = 400_000, 0.1, 3.0
    w = torch.linspace(-full_scale, full_scale, n)
    noisy = variation.bit_sliced_gaussian(w, sigma, generator(), weight_bits=m, device_bits=k)
    deviation = (noisy - variation.quantize(w, m)) / full_scale
    exact = sigma * variation.bit_slicing_factor(m, k)
    assert deviation.std().item() == pytest.approx(exact, rel=5 / (2 * n) ** 0.5)
    assert deviation.mean().item() == pytest.approx(0, abs=5 * exact / n**0.5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantizer_step_and_idempotence(bits):
    w = torch.randn(40_000, generator=generator()) * 0.3
    full_scale = w.abs().max()
    step = full_scale / (2**bits - 1)
    q = variation.quantize(w, bits)
    assert torch.allclose(q / step, (q / step).round(), atol=1e-3)
    assert (q - w).abs().max() <= step / 2 * (1 + 1e-5)
    assert (q - w).abs().max() > 0.4 * step  # a finer step would stay below
    assert q.abs().max() == full_scale
    assert torch.allclose(variation.quantize(q, bits), q, atol=1e-6)
    assert torch.allclose(variation.quantize(-w, bits), -q)  # symmetric


@pytest.mark.parametrize(
    "programmed",
    [
        lambda w: variation.quantize(w, 4),
        lambda w: variation.bit_sliced_gaussian(w, 0.1, generator(), weight_bits=4, device_bits=2),
        lambda w: variation.bit_sliced_gaussian(w, 0.1, generator(), write_verify=0.03),
        lambda w: variation.bit_sliced_gaussian(w, 0.1, generator(), mid_range_factor=4.0),
    ],
)
def test_straight_through_gradient_is_exactly_one(programmed):
    w = torch.randn(30, 20, generator=generator(), requires_grad=True)
    programmed(w).sum().backward()
    assert torch.equal(w.grad, torch.ones(30, 20))


@pytest.mark.parametrize("threshold", [0.03, 0.06])
@pytest.mark.parametrize("bits", [(8, 1), (8, 2), (8, 8), (6, 2), (4, 2)])
def test_write_verify_bounds_every_weight(bits, threshold):
    m, k = bits
    w = torch.randn(100_000, generator=generator(3))
    full_scale = w.abs().max()
    noisy = variation.bit_sliced_gaussian(w, 0.1, generator(), weight_bits=m, device_bits=k, write_verify=threshold)
    deviation = (noisy - variation.quantize(w, m)) / full_scale
    assert deviation.abs().max() <= threshold * (1 + 1e-5)
    sd = truncated_std(0.1, threshold) * variation.bit_slicing_factor(m, k)
    assert deviation.std().item() == pytest.approx(sd, rel=5 / (2 * len(w)) ** 0.5)  # lighter tails: a smaller error
    if m == k:
        assert deviation.abs().max() > 0.99 * threshold  # one device reaches its bound


def truncated_std(sigma, bound):
    return sigma * stats.truncnorm.std(-bound / sigma, bound / sigma)


@pytest.mark.parametrize(("sigma", "bound"), [(0.1, 0.03), (0.03, 0.03), (0.03, 0.06), (0.1, 0.5)])
def test_truncated_normal_against_scipy(sigma, bound):
    n = 400_000
    x = variation.truncated_normal((n,), sigma, bound, generator())
    b = bound / sigma
    sd, fourth = stats.truncnorm.std(-b, b), stats.truncnorm.moment(4, -b, b)
    error_of_std = sd / 2 * ((fourth / sd**4 - 1) / n) ** 0.5
    assert x.std().item() / sigma == pytest.approx(sd, abs=5 * error_of_std)
    assert x.mean().item() / sigma == pytest.approx(0, abs=5 * sd / n**0.5)
    assert x.abs().max() <= bound
    inside = (x.abs() < bound / 2).double().mean().item()
    share = float(stats.truncnorm.cdf(b / 2, -b, b) - stats.truncnorm.cdf(-b / 2, -b, b))
    assert inside == pytest.approx(share, abs=5 * (share * (1 - share) / n) ** 0.5)


@pytest.mark.parametrize("s", [1.0, 2.0, 4.0, 6.0])
def test_mid_range_weights_are_s_times_noisier(s):
    n, sigma = 200_000, 0.1
    w = torch.cat([torch.full((2 * n,), 0.5), torch.full((n,), -1.0), torch.zeros(2 * n)])  # 40 % mid-range
    device = BitSlicedGaussian(sigma=sigma, mid_range_factor=s)
    deviation = device.program(w, generator()) - variation.quantize(w, 8)
    base = sigma * variation.bit_slicing_factor(8, 2) / math.sqrt(0.4 * s**2 + 0.6)
    middle, outer = deviation[: 2 * n], deviation[2 * n :]
    assert middle.std().item() == pytest.approx(s * base, rel=5 / (4 * n) ** 0.5)
    assert outer.std().item() == pytest.approx(base, rel=5 / (6 * n) ** 0.5)
    # the normalisation keeps the mean square of such a matrix at that of s = 1 (error: mostly the 2n mid-range draws)
    assert deviation.square().mean().sqrt().item() == pytest.approx(device.relative_strength, rel=5 / (4 * n) ** 0.5)


def test_no_variation_is_exact():
    w = torch.randn(50, 50, generator=generator())
    assert Ideal().program(w, generator()) is w
    assert torch.equal(LogNormal(sigma=0).program(w, generator()), w)
    assert torch.equal(BitSlicedGaussian(sigma=0).program(w, generator()), variation.quantize(w, 8))


@pytest.mark.parametrize(
    "device",
    [
        LogNormal(),
        BitSlicedGaussian(),
        BitSlicedGaussian(write_verify=0.03),
        BitSlicedGaussian(mid_range_factor=4.0),
    ],
)
def test_all_zero_weights_stay_zero(device):
    assert torch.equal(device.program(torch.zeros(8, 8), generator()), torch.zeros(8, 8))


def test_relative_strength():
    assert LogNormal(sigma=0.3).relative_strength == 0.3
    assert BitSlicedGaussian(sigma=0.1).relative_strength == pytest.approx(0.0778, abs=5e-5)
    assert Ideal().relative_strength == 0


@pytest.mark.parametrize(
    ("threshold", "mean", "deviation"),
    [(0.5, -0.198, 0.744), (0.7, -0.143, 0.799), (1.0, -0.083, 0.867), (2.0, -0.0085, 0.980)],
)
def test_censored_moments(threshold, mean, deviation):
    assert censored_moments(threshold) == pytest.approx((mean, deviation), abs=6e-4)  # published to three digits
    w = torch.full((1000, 1000), 0.25)
    w[0, 0] = 2.0  # the full scale
    n = (censored_gaussian(w, 0.1, threshold, torch.Generator().manual_seed(0)) - w) / (0.1 * 2.0)
    assert float(n.mean()) == pytest.approx(censored_moments(threshold)[0], abs=5e-3)  # five standard errors
    assert float(n.std()) == pytest.approx(censored_moments(threshold)[1], abs=5e-3)
    assert float(n.max()) == pytest.approx(threshold, abs=1e-4)  # mass at the threshold
    share = 0.5 * math.erfc(threshold / math.sqrt(2))
    assert float((n > threshold - 1e-4).float().mean()) == pytest.approx(share, abs=5e-3)
    assert float(n.min()) < -4  # the left tail is whole


def test_gaussian_without_threshold_and_its_gradient():
    w = torch.tensor([[1.0, -2.0]], requires_grad=True)
    noisy = Gaussian(sigma=0.1).program(w, torch.Generator().manual_seed(0))
    noisy.sum().backward()
    assert w.grad.tolist() == [[1.0, 1.0]]  # S is detached
    z = torch.randn((1, 2), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(noisy.detach(), w.detach() + 0.2 * z)
