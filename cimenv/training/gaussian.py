"""Recipe `gaussian`: fresh additive noise in units of the layer's full scale for every batch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import Gaussian
from cimenv.training.recipe import ramped
from cimenv.training.validated import ValidatedRecipe


class GaussianNoise(ValidatedRecipe):
    """Noise injection with n = Z * sigma_t * S: the baseline of the recipes against the worst case."""

    name: Literal["gaussian"] = "gaussian"
    sigma: float = Field(0.1, ge=0, le=1, description="sigma_t, in units of the layer's max|W|")
    ramp: float = Field(0.25, ge=0, le=1, description="share of training over which the noise rises from 0")

    def device(self, done: float) -> DeviceModel:
        """Return Gaussian variation at the ramp's present strength."""
        return Gaussian(sigma=self.sigma * self.risen(done))

    def risen(self, done: float) -> float:
        """Return how much of the full strength is reached after the share `done` of training."""
        return ramped(done, self.ramp)
