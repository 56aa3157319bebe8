"""Accuracy of the same chips in cimenv and in aihwkit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cimenv.core.progress import bar
from cimenv.crossbar.aihwkit import to_analog_model
from cimenv.tasks import MonteCarloEvaluator, load_task
from experiments.lab.rows import Floats

CHIPS, IMAGES, TIMES_S = 25, 1_000, (3_600.0, 31_536_000.0)


@dataclass(frozen=True)
class Comparison:
    """What both simulators say.

    Attributes:
        ours: accuracy in cimenv, `[times, chips]`.
        theirs: accuracy in aihwkit, `[times, chips]`.
        clean: accuracy without a crossbar.
        seconds: that each took.
    """

    ours: Floats
    theirs: Floats
    clean: float
    seconds: dict[str, float]


def compared() -> Comparison:
    """Measure both on evenly spaced test images."""
    task = load_task("lenet5-fashion-mini", ["recipe=standard", f"chips={CHIPS}"])
    task = task.with_changes(crossbar={"preset": "rasch2023"}, times_s=TIMES_S)
    task = task.model_copy(update={"options": {}, "report_images": IMAGES, "report_chips": CHIPS})
    evaluator = MonteCarloEvaluator(task, progress=bar)
    problem = evaluator.problem
    images, labels = problem.evaluated("test")
    start = time.perf_counter()
    ours = evaluator.evaluate(evaluator.space.empty(), "test").values
    middle = time.perf_counter()
    theirs = kit_accuracies(problem.network, images, labels)
    seconds = {"cimenv": middle - start, "aihwkit": time.perf_counter() - middle}
    return Comparison(ours, theirs, problem.clean_accuracy("test"), seconds)


def kit_accuracies(network: Any, images: torch.Tensor, labels: torch.Tensor) -> Floats:
    """Return accuracy `[times, chips]` in aihwkit, every chip programmed afresh."""
    model: Any = to_analog_model(network)
    accuracies = np.zeros((len(TIMES_S), CHIPS))
    with torch.no_grad(), bar("chips in aihwkit", CHIPS) as advance:
        for chip in range(CHIPS):
            model.program_analog_weights()
            for k, t_s in enumerate(TIMES_S):
                model.drift_analog_weights(t_s)
                correct = sum(
                    int((model(x).argmax(-1) == y).sum())
                    for x, y in zip(images.split(250), labels.split(250), strict=True)
                )
                accuracies[k, chip] = correct / len(labels)
            advance()
    return accuracies
