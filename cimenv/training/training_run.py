"""The one loop that all recipes share: a training under way, epoch by epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.core.precision import arithmetic
from cimenv.core.progress import Advance, Progress
from cimenv.crossbar.batchnorm import shared_statistics
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.mapping import MappedNetwork, map_network
from cimenv.data.splits import DataSplits, ImageSet

Snapshot = dict[str, Any]


class TrainStep(Protocol):
    """The loss of a batch, and how the weights follow it: what an epoch of training asks of a recipe."""

    @property
    def batch_size(self) -> int:
        """Return the images of a batch."""

    @property
    def separate_updates(self) -> bool:
        """Return whether every loss of a batch makes an update of its own."""

    def shares_statistics(self, done: float) -> bool:
        """Return whether batch norms use statistics of all chips after the share `done` of all steps."""

    def losses(
        self, network: MappedNetwork, x: Tensor, y: Tensor, done: float, generator: torch.Generator
    ) -> Iterator[Tensor]:
        """Yield the losses of one batch."""


class Schedule(Protocol):
    """How long and how fast a recipe trains."""

    @property
    def name(self) -> str:
        """Return the name of the recipe."""

    @property
    def epochs(self) -> int:
        """Return the epochs."""

    @property
    def batch_size(self) -> int:
        """Return the images of a batch."""

    @property
    def learning_rate(self) -> float:
        """Return the largest learning rate."""

    @property
    def weight_decay(self) -> float:
        """Return the decoupled weight decay."""


@dataclass(frozen=True)
class TrainedBackbone:
    """A recipe's result: the weights of the best epoch on validation, and the course of training.

    Attributes:
        state: `state_dict` of the backbone.
        history: one mapping an epoch: `epoch`, `loss`, and what the recipe measures: at least `val_accuracy`, by which
            the best epoch is chosen.
        input_ranges: of an analog crossbar, by site, where the recipe learns them.
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    input_ranges: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TrainingRun:
    """A backbone in training with its optimiser, schedule and position.

    Attributes:
        network: the backbone, mapped.
        data: the splits.
        generator: draws the order of images and the noise.
        advance: moves the bar.
        total: steps of the whole training.
        history: one mapping an epoch.
    """

    network: MappedNetwork
    data: DataSplits
    generator: torch.Generator
    advance: Advance
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    total: int
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    @contextmanager
    def of(
        recipe: Schedule,
        backbone: nn.Module,
        data: DataSplits,
        generator: torch.Generator,
        progress: Progress,
        copies: int = 1,
        crossbar: CrossbarConfig | None = None,
    ) -> Iterator[TrainingRun]:
        """Begin: AdamW and a one-cycle schedule. `copies` scales the bar for recipes that train an epoch repeatedly."""
        network = map_network(backbone, crossbar or CrossbarConfig(), data.image_shape)
        total = recipe.epochs * max(1, len(data.train) // recipe.batch_size)
        if network.model is not backbone:
            raise MappingError(
                "The backbone hides its matrices in LSTM, GRU or attention modules; train explicit(model)."
            )
        rate = recipe.learning_rate
        optimizer = torch.optim.AdamW(backbone.parameters(), lr=rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total)
        with progress(f"training {recipe.name}", total * copies) as advance:
            yield TrainingRun(network, data, generator, advance, optimizer, schedule, total)

    def train_epoch(self, recipe: TrainStep) -> float:
        """Train one epoch and return the mean of its losses' sums."""
        model = self.network.model.train()
        shared = recipe.shares_statistics(self.steps / self.total)
        with shared_statistics(model) if shared else nullcontext():
            return self._train_epoch(recipe)

    def _train_epoch(self, recipe: TrainStep) -> float:
        total, batches = 0.0, 0
        for x, y in shuffled_batches(self.data.train, recipe.batch_size, self.generator, self.network.layout):
            self.optimizer.zero_grad(set_to_none=True)
            for loss in recipe.losses(self.network, x, y, self.steps / self.total, self.generator):
                with arithmetic("float32", loss.device.type):
                    loss.backward()
                total += loss.item()
                if recipe.separate_updates:  # before the next loss is computed
                    self._update()
            if not recipe.separate_updates:
                self._update()
            self.schedule.step()
            self.steps, batches = self.steps + 1, batches + 1
            self.advance()
        return total / batches

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def keep(self, epoch: int, loss: float, measured: dict[str, float]) -> None:
        """Write an epoch into the history, and keep its weights if it scores best on validation."""
        self.history.append({"epoch": epoch + 1, "loss": loss, **measured})
        if measured["val_accuracy"] > self.best_score:
            self.best, self.best_score = copy.deepcopy(self.network.model.state_dict()), measured["val_accuracy"]

    def snapshot(self) -> Snapshot:
        """Return everything that an epoch changes, but the generator."""
        return {
            "model": copy.deepcopy(self.network.model.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "schedule": copy.deepcopy(self.schedule.state_dict()),
            "steps": self.steps,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot."""
        self.network.model.load_state_dict(snapshot["model"])
        self.optimizer.load_state_dict(copy.deepcopy(snapshot["optimizer"]))
        self.schedule.load_state_dict(copy.deepcopy(snapshot["schedule"]))
        self.steps = snapshot["steps"]

    def result(self) -> TrainedBackbone:
        """Return the best epoch's weights, which the backbone holds from now on."""
        self.network.model.load_state_dict(self.best)
        return TrainedBackbone({name: value.detach().clone() for name, value in self.best.items()}, self.history)


def shuffled_batches(
    images: ImageSet,
    batch_size: int,
    generator: torch.Generator,
    layout: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled, augmented full batches (a single smaller one if there are fewer images)."""
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, max(1, len(order) // batch_size) * batch_size, batch_size):
        which = order[start : start + batch_size]
        x = images.augmented(images.inputs(which), generator)
        yield x.to(memory_format=layout), images.labels[which]  # `contiguous` leaves the strides of one channel
