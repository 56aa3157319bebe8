"""Wall times that are compared in one run: medians of alternating calls, an epoch of a recipe."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cimenv.compensation.bank import CompensationBank
from cimenv.core.progress import silent
from cimenv.core.seeding import torch_generator
from cimenv.crossbar import Chips, MappedNetwork, map_network
from cimenv.data.splits import ImageSet
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.segments import SegmentedNetwork
from cimenv.networks import build_backbone
from cimenv.tasks import Problem, Task
from cimenv.training import Recipe
from cimenv.training.training_run import TrainingRun

Shape = tuple[int, int, int]  # of an image: channels, height, width


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median_ratio(a: Callable[[], object], b: Callable[[], object], runs: int = 7) -> tuple[float, float, float]:
    """Return the median ratio a / b of alternating runs, after one warm-up, and both medians in seconds."""
    pairs = [(seconds(a), seconds(b)) for _ in range(runs + 1)][1:]
    ratio = statistics.median(x / y for x, y in pairs)
    return ratio, statistics.median(x for x, _ in pairs), statistics.median(y for _, y in pairs)


def untrained(task: Task, images: int, shape: Shape) -> tuple[MappedNetwork, Tensor, Callable[..., Engine]]:
    """Return a task's network as drawn, random images, and what makes engines for them: time needs no training."""
    network = map_network(build_backbone(task.backbone, task.backbone_args), task.crossbar, shape)
    bank, model = CompensationBank(task.block_options()).eval(), network.model.eval()
    x, y = torch.rand(images, *shape, generator=torch_generator("timing")), torch.zeros(images, dtype=torch.long)

    def engine(**settings: Any) -> Engine:
        return Engine(SegmentedNetwork(model, network.sites), Chips(network, 0, "timing"), bank, x, y, **settings)

    return network, x, engine


def epoch_of(problem: Problem, recipe: Recipe, images: int | None = None) -> Callable[[], object]:
    """Return a function that trains one epoch of a recipe past its ramps, on the task's first training images."""
    backbone = build_backbone(problem.task.backbone, problem.task.backbone_args)
    train = problem.data.train
    part = ImageSet(train.images[:images], train.labels[:images], train.mean, train.std)
    data = replace(problem.data, train=part)

    def train_epoch() -> None:
        with TrainingRun.of(recipe, backbone, data, torch_generator("timing"), silent) as run:
            run.steps = run.total // 2
            run.train_epoch(recipe)

    return train_epoch
