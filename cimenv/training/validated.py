"""What the recipes against the worst case share: an epoch is judged by clean, mean, percentile and worst accuracy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from cimenv.core.precision import arithmetic
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import BitSlicedGaussian
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.data.splits import ImageSet
from cimenv.evaluation.intervals import smallest_chips
from cimenv.evaluation.statistics import Mean, Percentile
from cimenv.evaluation.worst_case import AttackTarget, WorstCaseSearch, worst_case
from cimenv.training.recipe import IDEAL, Recipe, chip_accuracies

JudgeMetric = Literal["clean", "mean", "percentile", "worst_case"]
METRICS: tuple[JudgeMetric, ...] = ("clean", "mean", "percentile", "worst_case")
QUANTILE = 0.05


class ValidatedRecipe(Recipe):
    """A recipe whose epochs are judged on validation under the physics the network is meant for.

    Every epoch's history holds `clean`, `mean` and `percentile` (5 % over the judge's chips) and `worst_case` (ten
    steps of weight-PGD at th_g = `bound`); `select` says which of them chooses the epoch.
    """

    epochs: int = Field(20, ge=1, le=10_000)
    bound: float = Field(0.03, gt=0, le=1, description="th_g of the worst case")
    judge: DeviceModel = Field(BitSlicedGaussian(sigma=0.1), description="devices of mean and percentile")
    select: JudgeMetric = Field("worst_case", description="what the best epoch, and a search, are chosen by")
    judge_chips: int = Field(59, ge=1, le=100_000)
    judge_images: int = Field(500, ge=1, le=1_000_000, description="validation images that judge an epoch")

    def against(self, bound: float) -> Recipe:
        """Return the recipe with this bound; see `Recipe.against`."""
        return self.model_copy(update={"bound": bound})

    @model_validator(mode="after")
    def _check(self) -> ValidatedRecipe:
        if self.judge_chips < (needed := smallest_chips(QUANTILE)):
            raise ValueError(f"judge_chips is {self.judge_chips}; the {QUANTILE:g}-quantile needs at least {needed}")
        return self

    def measures(self, network: MappedNetwork, val: ImageSet) -> dict[str, float]:
        """Return all four metrics, and as `val_accuracy` the one that selects."""
        with arithmetic("float32", val.labels.device.type):  # bfloat16 is too coarse for attacks
            measures = self.judged(network, val, METRICS)
        return {**measures, "val_accuracy": measures[self.select]}

    def judged(self, network: MappedNetwork, val: ImageSet, metrics: Collection[JudgeMetric]) -> dict[str, float]:
        """Return some metrics on validation."""
        with evaluating(network.model):
            return self._judged(network, val, metrics)

    def _judged(self, network: MappedNetwork, val: ImageSet, metrics: Collection[JudgeMetric]) -> dict[str, float]:
        x, y = val.inputs(slice(self.judge_images)), val.labels[: self.judge_images]
        measures: dict[str, float] = {}
        if "clean" in metrics:
            (measures["clean"],) = chip_accuracies(network, IDEAL, x, y, 1)
        if {"mean", "percentile"} & set(metrics):
            chips = np.array(chip_accuracies(network, self.judge, x, y, self.judge_chips))
            measures["mean"], measures["percentile"] = Mean().value(chips), Percentile().value(chips, QUANTILE)
        if "worst_case" in metrics:
            quick = WorstCaseSearch(bound=self.bound).quick()
            measures["worst_case"] = worst_case(
                AttackTarget(network, x, y), quick, torch_generator("judged-epoch")
            ).accuracy
        return measures
