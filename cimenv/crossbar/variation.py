"""Variation of the weights as pure functions. Leading dimensions are free: `[..., out, in]` works as well."""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNCENSORED = 30.0  # standard deviations; beyond them single and double precision know no normal number


def normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Draw N(0, 1) in the shape, type and place of `values`, where the generator is."""
    drawn = torch.randn(values.shape, generator=generator, device=generator.device, dtype=values.dtype)
    return drawn.to(values.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw single-precision numbers, uniform in 0 ... 1, where the generator is."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)


def log_normal(w: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return `w * exp(theta)`, theta ~ N(0, sigma^2) per weight: sign kept, median nominal.

    Source: CorrectNet (DATE 2023). Differentiable in `w`.
    """
    return w * normal_like(w, generator).mul_(sigma).exp_()


def log_normal_moments(sigma: float) -> tuple[float, float]:
    """Return mean and standard deviation of the factor: mu = e^{s^2/2}, sd = sqrt((e^{s^2}-1) e^{s^2})."""
    s2 = sigma * sigma
    return math.exp(s2 / 2), math.sqrt((math.exp(s2) - 1) * math.exp(s2))


def censored_gaussian(w: Tensor, sigma: float, threshold: float | None, generator: torch.Generator) -> Tensor:
    """Return `w + min(Z, threshold) * sigma * S`, Z ~ N(0, 1) per weight, S = max|w| (detached).

    Source: TRICE (ICCAD 2023). Censored from above (mass at the threshold), the left tail whole; without a threshold
    plain Gaussian noise. Differentiable in `w`.
    """
    z = normal_like(w, generator)
    if threshold is not None:
        z.clamp_(max=threshold)
    return w + z * (sigma * w.detach().abs().amax())


def censored_moments(threshold: float) -> tuple[float, float]:
    """Return mean t(1-Phi) - phi and standard deviation of min(Z, t), with E[min^2] = Phi - t phi + t^2(1-Phi)."""
    threshold = min(threshold, UNCENSORED)
    density = math.exp(-threshold * threshold / 2) / math.sqrt(2 * math.pi)
    below = (1 + math.erf(threshold / math.sqrt(2))) / 2
    mean = threshold * (1 - below) - density
    square = below - threshold * density + threshold * threshold * (1 - below)
    return mean, math.sqrt(square - mean * mean)


def quantize(w: Tensor, bits: int) -> Tensor:
    """Round `w` to multiples of `S / (2^bits - 1)`, S = max|w|: symmetric, with a straight-through gradient."""
    step = w.detach().abs().amax() / (2**bits - 1)
    if step == 0:
        return w
    return w + (torch.round(w.detach() / step) * step - w.detach())


def slice_significances(weight_bits: int, device_bits: int) -> Tensor:
    """Return the share of the full scale that each device of one weight carries: 2^{iK} / sum_i 2^{iK}."""
    exponents = range(0, weight_bits, device_bits)
    powers = torch.tensor([2.0**power for power in exponents], dtype=torch.float32, device="cpu")
    return powers / powers.sum()


def bit_slicing_factor(weight_bits: int, device_bits: int) -> float:
    """Return std(dW) / (S sigma) = sqrt(sum_i 4^{iK}) / sum_i 2^{iK} for devices with N(0, sigma) each."""
    return float(slice_significances(weight_bits, device_bits).square().sum().sqrt())


def truncated_normal(shape: tuple[int, ...], sigma: float, bound: float, generator: torch.Generator) -> Tensor:
    """Draw N(0, sigma^2) conditioned on |x| <= bound: a device is programmed again until it verifies."""
    limit = math.erf(bound / (sigma * math.sqrt(2.0)))
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64).mul_(2.0).sub_(1.0)
    drawn = torch.erfinv(uniform * limit) * (sigma * math.sqrt(2.0))
    return drawn.clamp_(-bound, bound).float()


def bit_sliced_gaussian(
    w: Tensor,
    sigma: float,
    generator: torch.Generator,
    *,
    weight_bits: int = 8,
    device_bits: int = 2,
    write_verify: float | None = None,
    mid_range_factor: float = 1.0,
) -> Tensor:
    """Quantise `w` and add the deviations of the M/K devices that hold each weight.

    Each device deviates by N(0, sigma) of its own full range; with `write_verify` = th_g every device satisfies
    |dg| <= th_g, hence |dW| <= th_g * S. With `mid_range_factor` = s, weights with 0.25 < |W|/S < 0.75 get
    sigma*s and the others sigma, where sigma is divided by sqrt(0.4 s^2 + 0.6).
    Source: Yan et al. (ICCAD 2022) and TRICE (ICCAD 2023), as in their public code. Straight-through gradient in `w`.
    """
    w = quantize(w, weight_bits)
    full_scale = w.detach().abs().amax()
    if sigma == 0:
        return w
    shares = slice_significances(weight_bits, device_bits)
    shape = (len(shares), *w.shape)
    if write_verify is None:
        per_device = torch.randn(shape, generator=generator, dtype=torch.float32).mul_(sigma)
    else:
        per_device = truncated_normal(shape, sigma, write_verify, generator)
    deviation = torch.tensordot(shares, per_device, dims=1).to(w.device, w.dtype)
    if mid_range_factor != 1.0:
        relative = w.detach().abs() / full_scale
        middle = (relative > 0.25) & (relative < 0.75)
        norm = math.sqrt(0.4 * mid_range_factor**2 + 0.6)
        deviation = deviation * torch.where(middle, mid_range_factor, 1.0) / norm
    return w + deviation * full_scale


def stuck(
    programmed: Tensor, targets: Tensor, shares: tuple[float, float, float], fates: Tensor, levels: Tensor
) -> Tensor:
    """Return programmed weights, some of whose two devices are stuck at zero, at max|targets|, or at random.

    Args:
        programmed: weights with all devices working: the positive device holds max(w, 0), the negative max(-w, 0).
        targets: what was to be programmed, of the same shape.
        shares: of devices stuck at zero, at the largest conductance, and anywhere between.
        fates: uniform in 0 ... 1, `[2, ...]`: which device of a pair meets which fate.
        levels: uniform in 0 ... 1, `[2, ...]`: where a device is stuck at random.
    """
    scale = targets.detach().abs().amax()
    pair = torch.stack([programmed, -programmed]).detach().clamp_min(0.0)
    zero, largest, anywhere = shares
    held = torch.where(fates < zero + largest, scale, scale * levels) * (fates >= zero)
    lost = torch.where(fates < zero + largest + anywhere, held - pair, torch.zeros_like(pair))
    return programmed + (lost[0] - lost[1])
