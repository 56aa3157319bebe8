"""Seconds for a chip of one LeNet-5: programmed and run in cimenv, in aihwkit, and a plain forward beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.progress import bar
from cimenv.core.threads import torch_threads
from cimenv.crossbar.aihwkit import to_analog_model
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.workers import IMAGE_BLOCK, workers
from cimenv.tasks import Problem, load_task
from experiments.lab.rows import Row
from experiments.lab.timing import seconds

CHIPS, IMAGES, RUNS = 5, 1_000, 7
KIT_BATCHES = (125, 250, 1_000)  # the kit is timed with its best
THREADS = (1, 2)
Call = Callable[[], object]


def timed() -> list[Row]:
    """Time all in alternation; return medians of seconds per chip and of ratios, a row a number of threads."""
    task = load_task("lenet5-fashion-mini", ["recipe=standard"]).with_changes(crossbar={"preset": "rasch2023"})
    problem = Problem.build(task, progress=bar)
    return [timed_on(problem, threads) for threads in THREADS]


def timed_on(problem: Problem, threads: int) -> Row:
    """Return the row of one number of threads."""
    images, labels = problem.data["val"].inputs(slice(IMAGES)), problem.data["val"].labels[:IMAGES]
    rivals = [kit(to_analog_model(problem.network), images, threads, batch) for batch in KIT_BATCHES]
    best = min(rivals, key=lambda call: statistics.median(seconds(call) for _ in range(3)))
    digital, own = plain(problem.network.model, images, threads), ours(problem, images, labels, threads)
    runs = [(seconds(digital), seconds(own) / CHIPS, seconds(best)) for _ in range(RUNS + 1)][1:]
    bare, mine, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "threads": threads,
        "plain_s": bare,
        "cimenv_s": mine,
        "aihwkit_s": theirs,
        "aihwkit_over_cimenv": statistics.median(theirs / mine for _, mine, theirs in runs),
        "cimenv_over_plain": statistics.median(mine / bare for bare, mine, _ in runs),
    }


def plain(model: nn.Module, images: Tensor, threads: int) -> Call:
    """Return a function that runs the digital model over all images, in blocks that threads share."""

    def block(part: Tensor) -> None:
        with torch.inference_mode():
            model(part)

    def run() -> None:
        with workers(threads) as each:
            list(each(block, images.split(IMAGE_BLOCK)))

    return run


def ours(problem: Problem, images: Tensor, labels: Tensor, threads: int) -> Call:
    """Return a function that programs chips and runs them, as every evaluation does."""
    none = (0,) * len(problem.network.sites)

    def run() -> None:
        engine = Engine(problem.segments, problem.chips("val"), problem.bank, images, labels, threads=threads)
        engine.run([none], range(CHIPS))

    return run


def kit(model: Any, images: Tensor, threads: int, batch: int) -> Call:
    """Return a function that programs one chip of the kit and runs it; its tiles take their threads from torch."""

    def run() -> None:
        with torch_threads(threads), torch.no_grad():
            model.program_analog_weights()
            for part in images.split(batch):
                model(part)

    return run
