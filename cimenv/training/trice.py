"""Recipe `trice`: right-censored Gaussian noise, its strength found on validation while it trains (ICCAD 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field, model_validator

from cimenv.core.seeding import torch_generator
from cimenv.crossbar.batchnorm import batch_norms, recalibrate_shared
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import Gaussian
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.sites import site_module
from cimenv.crossbar.variation import censored_moments
from cimenv.data.splits import ImageSet
from cimenv.training.adversary import full_scales
from cimenv.training.gaussian import GaussianNoise
from cimenv.training.training_run import TrainedBackbone, TrainingRun

QUARTERS = (0.25, 0.5, 0.75)
NARROWEST = 1e-4
NORM_CHIPS, NORM_IMAGES = 16, 1_000


class Trice(GaussianNoise):
    """Noise n = min(Z, threshold) * sigma_t * S: the mass above the threshold sits at it, the left tail is whole.

    With `search` every epoch is trained three times from the same weights, at 1/4, 1/2 and 3/4 of an interval; the copy
    that `select` judges best on validation goes on, and the interval shrinks around it. Odd epochs search sigma_t, even
    ones the threshold. `bake_in` adds the noise's mean to the weights that are kept.
    """

    name: Literal["trice"] = "trice"  # type: ignore[assignment]
    threshold: float = Field(1.0, gt=0, description="largest deviation in units of sigma_t")
    search: bool = Field(True, description="search sigma_t and the threshold")
    sigma_range: tuple[float, float] = (0.0, 0.3)
    threshold_range: tuple[float, float] = (0.5, 2.0)
    bake_in: bool = Field(False, description="W += mean of the censored noise, at the end")

    @model_validator(mode="after")
    def _ordered(self) -> Trice:
        for field, lowest in (("sigma_range", 0.0), ("threshold_range", 1e-6)):
            low, high = getattr(self, field)
            if not lowest <= low <= high:
                raise ValueError(f"{field} is ({low}, {high}); give (low, high) with {lowest:g} <= low <= high")
        return self

    def risen(self, done: float) -> float:
        """Return 1 while searching: a candidate must be judged at the strength that it was trained at."""
        return 1.0 if self.search else super().risen(done)

    def device(self, done: float) -> DeviceModel:
        """Return censored Gaussian variation at the ramp's present strength."""
        return Gaussian(sigma=self.sigma * self.risen(done), threshold=self.threshold)

    def measures(self, network: MappedNetwork, val: ImageSet) -> dict[str, float]:
        """Return all four metrics of the network as it would be kept."""
        with self._baked(network):
            return super().measures(network, val)

    @property
    def copies(self) -> int:
        """Return how often every epoch is trained: at each strength while searching."""
        return len(QUARTERS) if self.search else 1

    def train(self, run: TrainingRun) -> TrainedBackbone:
        """Train, with the search or with fixed noise; see `Recipe.train`."""
        trained = self._searched(run) if self.search else super().train(run)
        if not self.bake_in:
            return trained
        best = max(trained.history, key=lambda epoch: epoch["val_accuracy"])
        self._with({name: best[name] for name in ("sigma", "threshold") if name in best})._shift(run.network)
        state = run.network.model.state_dict()
        return TrainedBackbone({name: value.detach().clone() for name, value in state.items()}, trained.history)

    def _searched(self, run: TrainingRun) -> TrainedBackbone:
        ranges = {"sigma": self.sigma_range, "threshold": self.threshold_range}
        chosen = {name: (low + high) / 2 for name, (low, high) in ranges.items()}
        for epoch in range(self.epochs):
            field = ("sigma", "threshold")[epoch % 2]
            low, high = ranges[field]
            quarters = QUARTERS if high - low >= NARROWEST else (0.5,)
            candidates = [{**chosen, field: low + quarter * (high - low)} for quarter in quarters]
            number, loss = self._best_epoch(run, candidates)
            chosen = candidates[number]
            ranges[field] = _shrunk(low, high, quarters[number])
            run.keep(epoch, loss, {**self._with(chosen).measures(run.network, run.data.val), **chosen})
        return run.result()

    def _best_epoch(self, run: TrainingRun, candidates: list[dict[str, float]]) -> tuple[int, float]:
        """Train an epoch with every candidate's noise, go on with the best, and return its number and loss."""
        before, draws = run.snapshot(), run.generator.get_state()
        best, best_score, after, loss = 0, -1.0, before, 0.0
        for number, values in enumerate(candidates):
            run.restore(before)
            run.generator.set_state(draws)  # the same images and draws for all
            recipe = self._with(values)
            this = run.train_epoch(recipe)
            recipe.renormalise(run)
            with recipe._baked(run.network):
                score = recipe.judged(run.network, run.data.val, {recipe.select})[recipe.select]
            if score > best_score:
                best, best_score, after, loss = number, score, run.snapshot(), this
        run.restore(after)
        return best, loss

    def renormalise(self, run: TrainingRun) -> None:
        """Estimate batch-norm statistics again, over chips of this noise."""
        network = run.network
        if batch_norms(network.model):
            draws = (torch_generator("trice-norm", chip) for chip in range(NORM_CHIPS))
            chips = (network.program(draw, self.device(1.0)) for draw in draws)
            recalibrate_shared(network.model, chips, run.data.train.inputs(slice(NORM_IMAGES)))

    def _with(self, values: dict[str, float]) -> Trice:
        return self.model_copy(update=values)

    @contextmanager
    def _baked(self, network: MappedNetwork) -> Iterator[None]:
        """Shift the weights by the noise's mean while `bake_in` is set, and put them back."""
        if not self.bake_in:
            yield
            return
        weights = [site_module(network.model, site).weight for site in network.sites]
        kept = [weight.detach().clone() for weight in weights]
        try:
            self._shift(network)
            yield
        finally:
            with torch.no_grad():
                for weight, old in zip(weights, kept, strict=True):
                    weight.copy_(old)

    def _shift(self, network: MappedNetwork) -> None:
        mean, scales = censored_moments(self.threshold)[0] * self.sigma, full_scales(network)
        with torch.no_grad():
            for site in network.sites:
                site_module(network.model, site).weight.add_(mean * scales[site.name])


def _shrunk(low: float, high: float, quarter: float) -> tuple[float, float]:
    """Return the interval around the best quarter: the lower half, the middle half, or the upper half."""
    width = high - low
    if quarter == QUARTERS[0]:
        return low, low + width / 2
    if quarter == QUARTERS[2]:
        return low + width / 2, high
    return low + width / 4, low + 3 * width / 4
