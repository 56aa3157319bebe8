"""Recipes `lipschitz` and `lipschitz_noise`: error suppression (CorrectNet, DATE 2023, first half)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from cimenv.core.precision import arithmetic
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.sites import site_module
from cimenv.crossbar.variation import log_normal_moments
from cimenv.training.noise import Noise
from cimenv.training.recipe import Recipe


def target_norm(sigma: float, k: float = 1.0) -> float:
    """Return lambda = k / (mu + 3 sd) of the log-normal factor: a heuristic, not a bound."""
    mean, deviation = log_normal_moments(sigma)
    return k / (mean + 3 * deviation)


def gram_penalty(weight: Tensor, norm: float) -> Tensor:
    """Return ||G - norm^2 I||_F^2, G the smaller Gram matrix of the weight reshaped to `[out, in*kh*kw]`."""
    matrix = weight.flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return (gram - norm**2 * torch.eye(len(gram), device=gram.device)).square().sum()


def spectral_penalty(weight: Tensor, norm: float) -> Tensor:
    """Return (max(||W||_2 - norm, 0))^2 with the true spectral norm."""
    return (torch.linalg.matrix_norm(weight.flatten(1), ord=2) - norm).clamp_min(0).square()


class Lipschitz(Recipe):
    """Cross-entropy plus `beta * sum_l penalty(W_l)`.

    `form="orthogonal"` is the published surrogate on the Gram matrix; `form="spectral"` penalises the true spectral
    norm where it exceeds lambda. `target` fixes lambda; by default it follows from sigma.
    """

    name: Literal["lipschitz"] = "lipschitz"
    sigma: float = Field(0.5, ge=0, le=5, description="sigma that lambda is made for")
    k: float = Field(1.0, gt=0, le=1)
    beta: float = Field(0.01, ge=0)
    form: Literal["orthogonal", "spectral"] = "orthogonal"
    target: float | None = Field(None, gt=0, description="lambda itself, for ablations")

    def penalty(self, network: MappedNetwork) -> Tensor | float:
        """Return the summed penalty of every mapped layer."""
        norm = self.target if self.target is not None else target_norm(self.sigma, self.k)
        of_one = gram_penalty if self.form == "orthogonal" else spectral_penalty
        weights = [site_module(network.model, site).weight for site in network.sites]
        with arithmetic("float32", weights[0].device.type):
            return self.beta * sum(of_one(weight, norm) for weight in weights)


class LipschitzNoise(Lipschitz):
    """Both: noise injection and the penalty."""

    name: Literal["lipschitz_noise"] = "lipschitz_noise"  # type: ignore[assignment]
    noise_sigma: float = Field(0.5, ge=0, le=5, description="sigma of the injected variation")
    ramp: float = Field(0.5, ge=0, le=1)
    shared: float = Field(0, ge=0, le=1, description="as in recipe `noise`")
    epochs: int = Field(20, ge=1, le=10_000)

    def shares_statistics(self, done: float) -> bool:
        """Return whether recipe `noise` would share batch-norm statistics now."""
        return Noise(shared=self.shared, epochs=self.epochs).shares_statistics(done)

    def device(self, done: float) -> DeviceModel:
        """Return the noise of recipe `noise`."""
        return Noise(sigma=self.noise_sigma, ramp=self.ramp).device(done)
