"""Recipe `noise`: a fresh log-normal chip for every batch, its strength rising over a ramp."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import LogNormal
from cimenv.training.recipe import Recipe, ramped


class Noise(Recipe):
    """Noise injection: forward and backward at noisy weights, the update goes to the clean ones.

    The recipe keeps its own sigma whatever the task's variation is.
    """

    name: Literal["noise"] = "noise"
    sigma: float = Field(0.5, ge=0, le=5, description="sigma of the injected log-normal variation")
    ramp: float = Field(0.5, ge=0, le=1, description="share of training over which sigma rises from 0")
    shared: float = Field(
        0, ge=0, le=1, description="share of epochs, at the end, with batch-norm statistics of all chips, as in use"
    )
    epochs: int = Field(20, ge=1, le=10_000)

    def shares_statistics(self, done: float) -> bool:
        """Return whether the last epochs have begun; a part of an epoch counts as a whole."""
        return self.shared > 0 and done + 1 / self.epochs > 1 - self.shared + 1e-9

    def device(self, done: float) -> DeviceModel:
        """Return log-normal variation at the ramp's present strength."""
        return LogNormal(sigma=self.sigma * ramped(done, self.ramp))
