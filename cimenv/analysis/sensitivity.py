"""How much of one non-ideality a trained network bears, all others switched off (Rasch et al., 2023, figure 5).

Every non-ideality is raised until the accuracy over chips falls to a share of the digital network's (A* = 99 %), and
all of them are compared at the strength that gives one standard matrix the same error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cimenv.analysis.non_idealities import NON_IDEALITIES, NonIdeality, crossbar, mvm_error
from cimenv.compensation.bank import CompensationBank
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.intervals import mean_interval, normalised_accuracy
from cimenv.tasks.problem import Problem
from cimenv.tasks.task import Task

CALIBRATION_IMAGES = 1_000
STEPS = 8  # of the bisection of a strength, in its logarithm


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        weights: digest of the network.
        kind: `threshold`: the largest strength with A* of at least `wanted`; `equal_error`: the largest strength with
            an error of the standard matrix of at most `wanted`.
        non_ideality: a name of `NON_IDEALITIES`.
        wanted: A* or error.
        strength: in the unit of the non-ideality; its largest where even that does no harm.
        mvm_error: relative error of the standard matrix.
        accuracy: mean over chips.
        low, high: 95 % interval of that mean.
        normalised: A* = 1 - (error - error of the digital network) / (chance - that).
        chips, images: what was evaluated.
    """

    task: str
    weights: str
    kind: str
    non_ideality: str
    wanted: float
    strength: float
    mvm_error: float
    accuracy: float
    low: float
    high: float
    normalised: float
    chips: int
    images: int


def bare_task(task: Task, images: int) -> Task:
    """Return the task without blocks, its digital network with the batch norm it was trained with.

    Args:
        task: whose network is measured.
        images: test images of a chip.
    """
    exact = task.crossbar.model_copy(update={"batch_norm": "none"})
    return task.model_copy(update={"options": {}, "crossbar": exact, "report_images": images})


class Sensitivity:
    """Measures one trained network.

    Args:
        problem: of a `bare_task`; its network is what is mapped, whatever the task's crossbar.
        chips: test chips a point.
        threads: worker threads.

    Raises:
        ConfigError: the digital network is no better than chance.
    """

    def __init__(self, problem: Problem, chips: int = 10, threads: int = 1) -> None:
        self.problem, self.chips, self.threads = problem, chips, threads
        network = problem.network
        if not network.input_ranges:
            network = network.calibrated(problem.data.train.inputs(slice(CALIBRATION_IMAGES)))
        self.network: MappedNetwork = network
        self.images = problem.evaluated("test")
        self.clean = self._engine(network.config).clean_sum() / len(self.images[1])
        self.normalised(self.clean)  # before anything long: a network at chance has no A*

    def accuracy(self, config: CrossbarConfig) -> np.ndarray:
        """Return the accuracy of every chip."""
        empty = (0,) * len(self.network.sites)
        tally = self._engine(config).run([empty], range(self.chips))
        return tally.sums[0] / tally.images

    def normalised(self, accuracy: float) -> float:
        """Return A*."""
        return normalised_accuracy(accuracy, self.clean, self.problem.data.classes)

    def row(self, kind: str, name: str, wanted: float, strength: float) -> Row:
        """Return the measurement at a strength."""
        config = crossbar(name, strength, self.network.config)
        accuracies = self.accuracy(config)
        low, high = mean_interval(accuracies)
        mean = float(accuracies.mean())
        return Row(
            self.problem.task.name,
            self.problem.weights_digest[:12],
            kind,
            name,
            wanted,
            NON_IDEALITIES[name].reached(strength),
            mvm_error(config),
            mean,
            low,
            high,
            self.normalised(mean),
            self.chips,
            len(self.images[1]),
        )

    def threshold(self, name: str, share: float = 0.99) -> Row:
        """Return the largest strength at which A* is still `share`, by bisection of its logarithm."""

        def holds(strength: float) -> bool:
            accuracies = self.accuracy(crossbar(name, strength, self.network.config))
            return self.normalised(float(accuracies.mean())) >= share

        return self.row("threshold", name, share, _largest(NON_IDEALITIES[name], holds))

    def at_error(self, name: str, error: float) -> Row:
        """Return what the strength with this error of the standard matrix does to the network."""

        def below(strength: float) -> bool:
            return mvm_error(crossbar(name, strength, self.network.config)) <= error

        return self.row("equal_error", name, error, _largest(NON_IDEALITIES[name], below, steps=12))

    def _engine(self, config: CrossbarConfig) -> Engine:
        network = replace(self.network, config=config)
        bank = CompensationBank(self.problem.options).eval()
        chips = Chips(network, self.problem.task.chip_seed, "test")
        return Engine(self.problem.segments, chips, bank, *self.images, threads=self.threads)


def _largest(what: NonIdeality, holds: Callable[[float], bool], steps: int = STEPS) -> float:
    """Return the largest strength that holds, by bisection of its logarithm; the least one where none does."""
    low, high = math.log(what.low), math.log(what.high)
    if holds(what.high):
        return what.high
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(math.exp(middle)):
            low = middle
        else:
            high = middle
    return math.exp(low)
