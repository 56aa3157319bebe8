"""Time chips of one LeNet-5 in cimenv and in IBM's aihwkit: `make bench-aihwkit`.

Needs aihwkit; runs in an environment of its own. Writes results/aihwkit_speed/bench.csv and targets.json.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.progress import bar
from cimenv.core.threads import torch_threads
from cimenv.crossbar.aihwkit import to_analog_model
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.workers import IMAGE_BLOCK, workers
from cimenv.tasks import Problem, load_task
from experiments.lab.targets import target, write_targets
from experiments.lab.timing import seconds

OUT = Path(__file__).parents[2] / "results/aihwkit_speed"
CHIPS, IMAGES, RUNS, COMMAND = 5, 1_000, 7, "make bench-aihwkit"
KIT_BATCHES = (125, 250, 1_000)  # the kit is timed with its best
HEAD = ["threads", "plain_s", "cimenv_s", "aihwkit_s", "aihwkit_over_cimenv", "cimenv_over_plain"]
Call = Callable[[], object]


def plain(model: nn.Module, images: Tensor, threads: int) -> Call:
    """Return what runs the digital model over all images, in blocks that threads share."""

    def block(part: Tensor) -> None:
        with torch.inference_mode():
            model(part)

    def run() -> None:
        with workers(threads) as each:
            list(each(block, images.split(IMAGE_BLOCK)))

    return run


def ours(problem: Problem, images: Tensor, labels: Tensor, threads: int) -> Call:
    """Return what programs chips and runs them, as every evaluation does."""
    none = (0,) * len(problem.network.sites)

    def run() -> None:
        engine = Engine(problem.segments, problem.chips("val"), problem.bank, images, labels, threads=threads)
        engine.run([none], range(CHIPS))

    return run


def kit(model: Any, images: Tensor, threads: int, batch: int) -> Call:
    """Return what programs one chip of the kit and runs it; its tiles take their threads from torch."""

    def run() -> None:
        with torch_threads(threads), torch.no_grad():
            model.program_analog_weights()
            for part in images.split(batch):
                model(part)

    return run


def main() -> int:
    """Time all in alternation and write medians of seconds per chip and of ratios."""
    task = load_task("lenet5-fashion-mini", ["recipe=standard"]).with_changes(crossbar={"preset": "rasch2023"})
    problem = Problem.build(task, progress=bar)
    images, labels = problem.data["val"].inputs(slice(IMAGES)), problem.data["val"].labels[:IMAGES]
    rows, targets = [], []
    for threads in (1, 2):
        rivals = [kit(to_analog_model(problem.network), images, threads, batch) for batch in KIT_BATCHES]
        best = min(rivals, key=lambda call: statistics.median(seconds(call) for _ in range(3)))
        digital, own = plain(problem.network.model, images, threads), ours(problem, images, labels, threads)
        runs = [(seconds(digital), seconds(own) / CHIPS, seconds(best)) for _ in range(RUNS + 1)][1:]
        faster = statistics.median(theirs / mine for _, mine, theirs in runs)
        slower = statistics.median(mine / bare for bare, mine, _ in runs)
        rows.append([threads, *(statistics.median(column) for column in zip(*runs, strict=True)), faster, slower])
        where = f"{threads} thread{'s' * (threads > 1)}, a chip x {IMAGES} images"
        targets.append(target(f"aihwkit / cimenv, {where}", ">= 10", faster, faster >= 10, COMMAND))
        targets.append(target(f"cimenv / plain digital forward, {where}", "<= 4", slower, slower <= 4, COMMAND))
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / "bench.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEAD, *rows])
    write_targets(OUT, targets)
    print((OUT / "bench.csv").read_text(), f"torch {torch.__version__}, {os.cpu_count()} cores", sep="")
    return 0 if all(found["met"] for found in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
