"""Recipe `hwa`: hardware-aware training for the task's own crossbar (Rasch et al., Nature Communications 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from cimenv.crossbar.chips import Chips
from cimenv.crossbar.interception import SiteCall, observed
from cimenv.crossbar.layers import ProgrammedWeight, program_weight
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.sites import site_module
from cimenv.data.splits import ImageSet
from cimenv.evaluation.labels import count_correct
from cimenv.training.recipe import SCORING_CHIPS, Recipe
from cimenv.training.training_run import TrainedBackbone, TrainingRun

UNCLIPPED = 0.95  # share of inputs within the range above which the range decays
SCORING_IMAGES = 1_000
SMALLEST_RANGE = 1e-3


class HardwareAware(Recipe):
    """Fine-tunes the `standard` network on the task's crossbar: one draw of all noise a batch, forward and backward.

    Every ingredient is a switch. A draw is a chip: programming noise, drift variation and 1/f noise of the task's
    devices, `noise_scale` times as strong, at a time drawn anew up to `t_max_s`; where the crossbar is analog, the
    whole chain with converters, IR drop, read and output noise. Updates go to the clean weights, whose rows are mapped
    to their largest weight. Input ranges are learned: first the running mean of 3 std(x), then by gradient.
    """

    name: Literal["hwa"] = "hwa"
    epochs: int = Field(6, ge=1, le=10_000)
    learning_rate: float = Field(1e-3, gt=0)
    noise_scale: float = Field(1.5, ge=0, description="strength of the devices' noise, in units of the task's")
    t_max_s: float = Field(
        86_400.0, ge=0, description="a draw's time is log-uniform from 1 s; 0 trains after programming"
    )
    chain: bool = Field(True, description="converters, IR drop, read and output noise in the loop")
    drop_connect: float = Field(0.01, ge=0, lt=1, description="share of weights that are 0 in a draw")
    clip_sigma: float | None = Field(2.5, gt=0, description="weights are clipped to so many standard deviations")
    learn_ranges: bool = Field(True, description="learn the input ranges; else they are calibrated by quantile")
    range_steps: int = Field(100, ge=0, le=1_000_000, description="batches in which the ranges follow 3 std(x)")
    range_rate: float = Field(1e-2, gt=0, description="learning rate of the ranges")
    range_decay: float = Field(1e-3, ge=0, description="pull of a range that clips less than 5 % of its inputs")
    score_s: float = Field(3_600.0, ge=0, description="time at which an epoch is judged on validation")

    @property
    def fine_tunes(self) -> bool:
        """Return True: it starts from the standard network and trains for the task's crossbar."""
        return True

    def train(self, run: TrainingRun) -> TrainedBackbone:
        """Fine-tune for the run's crossbar; see `Recipe.train`."""
        training = _Training(self, run.network, run.data.train)
        for epoch in range(self.epochs):
            loss = run.train_epoch(training)
            run.keep(epoch, loss, training.measures(run.network, run.data.val))
        return replace(run.result(), input_ranges=training.best_ranges if training.learns else {})

    def measures(self, network: MappedNetwork, val: ImageSet) -> dict[str, float]:
        """Return the mean accuracy over a few fixed chips at `score_s`, or at the nearest time that is known."""
        known = _known_times_s(network)
        t_s = self.score_s if known is None else min(known, key=lambda t_s: abs(t_s - self.score_s))
        chips = Chips(network, 0, "hwa-score").at(t_s)
        x, y = val.inputs(slice(SCORING_IMAGES)), val.labels[:SCORING_IMAGES]
        accuracies = []
        with torch.no_grad(), evaluating(network.model):
            clean = int(count_correct(network.model(x), y)) / len(y)
            for chip in range(SCORING_CHIPS):
                with network.programmed(chips.all_weights(chip)) as model:
                    accuracies.append(int(count_correct(model(x), y)) / len(y))
        return {"val_accuracy": float(np.mean(accuracies)), "clean": clean}


class _Training:
    """One run of the recipe: what `TrainingRun.train_epoch` asks of a recipe, with ranges that are learned."""

    separate_updates = False

    def __init__(self, recipe: HardwareAware, network: MappedNetwork, train: ImageSet) -> None:
        self.recipe, self.batch_size = recipe, recipe.batch_size
        self.steps, self.best_score = 0, -1.0
        self.known = _known_times_s(network)
        self.ranges: dict[str, Tensor] = {}
        self.best_ranges: dict[str, Tensor] = {}
        if network.analog:
            calibrated = network.calibrated(train.inputs(slice(SCORING_IMAGES))).input_ranges
            self.ranges = {name: value.clone() for name, value in calibrated.items()}
        self.learns = recipe.learn_ranges and recipe.chain and bool(self.ranges)
        if self.learns:
            for value in self.ranges.values():
                value.requires_grad_()
            self.optimizer = torch.optim.Adam(list(self.ranges.values()), lr=recipe.range_rate)

    def shares_statistics(self, done: float) -> bool:
        """Return whether the recipe shares batch-norm statistics now."""
        return self.recipe.shares_statistics(done)

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the cross-entropy on one chip; see `Recipe.losses`."""
        del done
        if self.recipe.clip_sigma is not None:
            _clip(network, self.recipe.clip_sigma)
        with network.programmed(self._chip(network, generator)) as model, self._watching(network) as seen:
            loss = F.cross_entropy(model(x), y)
        yield loss
        if seen:
            self._update_ranges(seen)
        self.steps += 1

    def measures(self, network: MappedNetwork, val: ImageSet) -> dict[str, float]:
        """Return the measures of `HardwareAware.measures`, and keep the ranges of the best epoch."""
        kept = {name: value.detach().clone() for name, value in self.ranges.items()}
        if self.ranges and not self.learns:
            kept = dict(network.calibrated(val.inputs(slice(SCORING_IMAGES))).input_ranges)
        measures = self.recipe.measures(replace(network, input_ranges=kept), val)
        if measures["val_accuracy"] > self.best_score:
            self.best_score, self.best_ranges = measures["val_accuracy"], kept
        return measures

    def _chip(self, network: MappedNetwork, generator: torch.Generator) -> dict[str, ProgrammedWeight]:
        recipe, chip = self.recipe, {}
        t_s = self._time(float(torch.rand((), generator=generator)))
        for site in network.sites:
            weight, config = site_module(network.model, site).weight, network.config.at(site.name)
            if recipe.drop_connect:
                kept = torch.rand(weight.shape, generator=generator) >= recipe.drop_connect
                weight = weight * kept.to(weight.device)
            config = config.model_copy(
                update={
                    "device": config.device.scaled(recipe.noise_scale),
                    "analog": config.analog and recipe.chain,
                }
            )
            ranges = self.ranges.get(site.name)
            chip[site.name] = program_weight(
                weight,
                config,
                generator,
                groups=site.groups,
                input_range=ranges,
                t_s=t_s if config.device.ages else 0.0,
            )
        return chip

    def _time(self, uniform: float) -> float:
        """Return the time of a draw: log-uniform up to `t_max_s`, or one of those that the devices know."""
        latest = self.recipe.t_max_s
        if self.known is None:
            return max(latest, 1.0) ** uniform if latest else 0.0
        within = [t_s for t_s in self.known if t_s <= latest]
        return within[int(uniform * len(within))]

    @contextmanager
    def _watching(self, network: MappedNetwork) -> Iterator[dict[str, list[tuple[float, float]]]]:
        """Give std(x) and the share of unclipped inputs of every call, by site, while ranges are learned."""
        seen: dict[str, list[tuple[float, float]]] = {}
        if not self.learns:
            yield seen
            return

        def watch(call: SiteCall) -> Tensor:
            x = call.x.detach()
            unclipped = int((x.abs() <= self.ranges[call.site].detach().mean()).sum()) / x.numel()
            spread = float(x.std()) if x.numel() > 1 else 0.0
            seen.setdefault(call.site, []).append((spread, unclipped))
            return call.outputs()

        with observed(network.model, network.sites, watch):
            yield seen

    def _update_ranges(self, seen: dict[str, list[tuple[float, float]]]) -> None:
        """Let every range follow 3 std(x) at first; later follow its gradient, and decay while it clips little."""
        for name, calls in seen.items():
            value, (spread, unclipped) = self.ranges[name], np.mean(calls, axis=0)
            with torch.no_grad():
                if self.steps < self.recipe.range_steps:
                    value += (3.0 * spread - value) / (self.steps + 1)
                    value.grad = None
                elif unclipped > UNCLIPPED and value.grad is not None:
                    value.grad += self.recipe.range_decay * value
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for value in self.ranges.values():
                value.clamp_(min=SMALLEST_RANGE)


def _known_times_s(network: MappedNetwork) -> tuple[float, ...] | None:
    """Return the times at which the devices are known, or None where it is known at any time."""
    times = (network.config.at(site.name).device.known_times_s for site in network.sites)
    return next((known for known in times if known is not None), None)


def _clip(network: MappedNetwork, sigmas: float) -> None:
    with torch.no_grad():
        for site in network.sites:
            weight = site_module(network.model, site).weight
            bound = float(sigmas * weight.std()) if weight.numel() > 1 else 0.0
            if bound > 0:  # weights without spread have no outliers
                weight.clamp_(-bound, bound)
