"""What a recipe is, and the one loop that all recipes share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.config import Frozen
from cimenv.core.progress import Progress
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.devices import Ideal, LogNormal
from cimenv.crossbar.mapping import MappedNetwork, map_network, programmed
from cimenv.data.splits import DataSplits, ImageSet

SCORING_CHIPS = 4
SCORING_IMAGES = 2_000
IDEAL = Ideal()


@dataclass(frozen=True)
class TrainedBackbone:
    """A recipe's result: the weights of the best epoch on validation, and the course of training.

    Attributes:
        state: `state_dict` of the backbone.
        history: one mapping an epoch: `epoch`, `loss`, `val_accuracy` (clean, or noisy for recipes with noise).
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]


class Recipe(Frozen):
    """A way to train the backbone. Subclasses say what noise is injected and what is added to the loss.

    Adam with a one-cycle schedule; the epoch with the best validation score is kept, never one chosen on test.
    """

    name: str
    version: int = Field(1, description="bumped when the numbers of this recipe change")
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(4e-3, gt=0)

    def device(self, done: float) -> Ideal | LogNormal:
        """Return the device model whose noise is injected after the share `done` of all steps."""
        del done
        return IDEAL

    def penalty(self, network: MappedNetwork) -> Tensor | float:
        """Return what is added to the cross-entropy."""
        del network
        return 0.0

    def fit(
        self, backbone: nn.Module, data: DataSplits, generator: torch.Generator, progress: Progress
    ) -> TrainedBackbone:
        """Train `backbone` in place and return its best state.

        Args:
            backbone: freshly initialised.
            data: trained on `train`, selected on `val`.
            generator: draws the order of images and the noise.
            progress: opens a bar.
        """
        from cimenv.crossbar.config import CrossbarConfig

        network = map_network(backbone, CrossbarConfig(), data.image_shape)
        batches = max(1, len(data.train) // self.batch_size)
        total = self.epochs * batches
        optimizer = torch.optim.Adam(backbone.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=total)
        best, best_score, history = copy.deepcopy(backbone.state_dict()), -1.0, []
        with progress(f"training {self.name}", total) as advance:
            for epoch in range(self.epochs):
                backbone.train()
                losses = 0.0
                for step, (x, y) in enumerate(shuffled_batches(data.train, self.batch_size, generator)):
                    loss = self._loss(network, x, y, (epoch * batches + step) / total, generator)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    losses += loss.item()
                    advance()
                score = self.score(network, data.val)
                history.append({"epoch": epoch + 1, "loss": losses / batches, "val_accuracy": score})
                if score > best_score:
                    best, best_score = copy.deepcopy(backbone.state_dict()), score
        backbone.load_state_dict(best)
        return TrainedBackbone({name: value.detach().clone() for name, value in best.items()}, history)

    def score(self, network: MappedNetwork, val: ImageSet) -> float:
        """Return validation accuracy: clean, or the mean over a few fixed chips for recipes with noise."""
        network.model.eval()
        x, y = val.inputs(slice(SCORING_IMAGES)), val.labels[:SCORING_IMAGES]
        device = self.device(1.0)
        chips = 1 if isinstance(device, Ideal) else SCORING_CHIPS
        accuracy = 0.0
        with torch.no_grad():
            for chip in range(chips):
                draw = torch_generator("recipe-score", chip)
                with programmed(network.model, network.program(draw, device)) as model:
                    accuracy += float((model(x).argmax(-1) == y).float().mean()) / chips
        return accuracy

    def _loss(self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator) -> Tensor:
        device = self.device(done)
        if isinstance(device, Ideal):
            return F.cross_entropy(network.model(x), y) + self.penalty(network)
        with programmed(network.model, network.program(generator, device)) as model:
            loss = F.cross_entropy(model(x), y)
        return loss + self.penalty(network)


def shuffled_batches(images: ImageSet, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled full batches (a single smaller one if there are fewer images)."""
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, max(1, len(order) // batch_size) * batch_size, batch_size):
        which = order[start : start + batch_size]
        yield images.inputs(which), images.labels[which]
