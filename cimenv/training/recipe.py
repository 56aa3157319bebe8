"""What a recipe is: a noise, a loss, a way to score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.progress import Progress
from cimenv.core.registry import Registry
from cimenv.core.seeding import torch_generator
from cimenv.core.tagged import Tagged
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import Ideal
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.data.splits import DataSplits, ImageSet
from cimenv.evaluation.labels import count_correct
from cimenv.training.training_run import TrainedBackbone, TrainingRun

SCORING_CHIPS = 4
SCORING_IMAGES = 2_000
IDEAL = Ideal()
CAME_LATER = ("shared", "weight_decay")


class Recipe(Tagged):
    """A way to train the backbone. Subclasses say what noise is injected and what is added to the loss.

    AdamW with a one-cycle schedule; the epoch with the best validation score is kept, never one chosen on test.
    """

    name: str
    version: int = Field(1, ge=1, le=1_000, description="bumped when the numbers of this recipe change")
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(128, ge=2, le=65_536)
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0, description="decoupled, as in AdamW; 0 is Adam")

    @classmethod
    def registry(cls) -> Registry[type[Recipe]]:
        """Return the registry of recipes."""
        return RECIPES

    def without_what_is_off(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields for keys; one that came later and is off leaves them, and so the seeds, as they were."""
        return {name: value for name, value in fields.items() if name not in CAME_LATER or value}

    def device(self, done: float) -> DeviceModel:
        """Return the device model whose noise is injected after the share `done` of all steps."""
        del done
        return IDEAL

    @property
    def fine_tunes(self) -> bool:
        """Return whether the recipe starts from the `standard` recipe's weights and trains for the task's crossbar."""
        return False

    def shares_statistics(self, done: float) -> bool:
        """Return whether batch norms use statistics of all chips, as in use, after the share `done` of all steps."""
        del done
        return False

    @property
    def separate_updates(self) -> bool:
        """Return whether every loss of a batch makes an update of its own; else their gradients are summed."""
        return False

    def penalty(self, network: MappedNetwork) -> Tensor | float:
        """Return the penalty that is added to the cross-entropy."""
        del network
        return 0.0

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the losses of one batch: every one is differentiated, and perhaps applied, before the next is computed.

        The network must hold its own weights whenever a loss is yielded.

        Args:
            network: the backbone in training.
            x: images `[n, c, h, w]`.
            y: labels `[n]`.
            done: share of all steps that are done.
            generator: draws the noise.
        """
        device = self.device(done)
        if device.exact:
            yield F.cross_entropy(network.model(x), y) + self.penalty(network)
            return
        with network.programmed(network.program(generator, device)) as model:
            loss = F.cross_entropy(model(x), y)
        yield loss + self.penalty(network)

    def fit(
        self,
        backbone: nn.Module,
        data: DataSplits,
        generator: torch.Generator,
        progress: Progress,
        crossbar: CrossbarConfig | None = None,
    ) -> TrainedBackbone:
        """Train `backbone` in place, leave it in eval mode with its best state, and return that.

        Args:
            backbone: freshly initialised, or trained where the recipe fine-tunes.
            data: trained on `train`, selected on `val`.
            generator: draws the order of images and the noise.
            progress: opens a bar.
            crossbar: what a recipe that fine-tunes trains for; the others keep their own noise.
        """
        trained_for = crossbar if self.fine_tunes else None
        with TrainingRun.of(self, backbone, data, generator, progress, self.copies, trained_for) as run:
            trained = self.train(run)
        backbone.eval()
        return trained

    def against(self, bound: float) -> Recipe:
        """Return the recipe for deviations of weights up to `bound`, where it trains against the worst of them."""
        del bound
        return self

    @property
    def copies(self) -> int:
        """Return how often every epoch is trained."""
        return 1

    def train(self, run: TrainingRun) -> TrainedBackbone:
        """Train all epochs of a run and return the best."""
        for epoch in range(self.epochs):
            loss = run.train_epoch(self)
            run.keep(epoch, loss, self.measures(run.network, run.data.val))
        return run.result()

    def measures(self, network: MappedNetwork, val: ImageSet) -> dict[str, float]:
        """Return the measures on validation after an epoch; the epoch with the best `val_accuracy` is kept.

        Here: clean accuracy, or the mean over a few fixed chips for recipes with noise.
        """
        x, y = val.inputs(slice(SCORING_IMAGES)), val.labels[:SCORING_IMAGES]
        device = self.device(1.0)
        chips = 1 if device.exact else SCORING_CHIPS
        return {"val_accuracy": sum(a / chips for a in chip_accuracies(network, device, x, y, chips))}


RECIPES: Registry[type[Recipe]] = Registry(
    "recipe",
    Recipe,
    {
        "standard": "cimenv.training.standard:Standard",
        "noise": "cimenv.training.noise:Noise",
        "lipschitz": "cimenv.training.lipschitz:Lipschitz",
        "lipschitz_noise": "cimenv.training.lipschitz:LipschitzNoise",
        "gaussian": "cimenv.training.gaussian:GaussianNoise",
        "trice": "cimenv.training.trice:Trice",
        "a_trice": "cimenv.training.a_trice:ATrice",
        "adversarial": "cimenv.training.adversarial:Adversarial",
        "sam": "cimenv.training.sam:Sam",
        "hwa": "cimenv.training.hwa:HardwareAware",
    },
    tag="name",
)


def recipe_named(name: str, **settings: Any) -> Recipe:
    """Return a recipe by name with its default settings, or with some of them replaced.

    Raises:
        UnknownNameError: no such recipe.
    """
    return RECIPES[name](**settings)


def ramped(done: float, ramp: float) -> float:
    """Return what share of its full strength a noise has after the share `done` of training; `ramp` 0 is at once."""
    return min(1.0, done / ramp) if ramp else 1.0


def chip_accuracies(network: MappedNetwork, device: DeviceModel, x: Tensor, y: Tensor, chips: int) -> list[float]:
    """Return the accuracy of a few fixed chips; the same ones at every call."""
    accuracies = []
    with torch.no_grad(), evaluating(network.model):
        for chip in range(chips):
            draw = torch_generator("recipe-score", chip)
            with network.programmed(network.program(draw, device)) as model:
                accuracies.append(int(count_correct(model(x), y)) / len(y))
    return accuracies
