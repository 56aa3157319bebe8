"""The Monte-Carlo engine beside plain forward passes."""

from __future__ import annotations

import statistics
from itertools import cycle

import torch

from cimenv.core.progress import bar
from cimenv.core.seeding import torch_generator
from cimenv.core.threads import torch_threads
from cimenv.crossbar import map_network, preset, programmed
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.prefix import PrefixCache
from cimenv.evaluation.workers import IMAGE_BLOCK
from cimenv.tasks import MonteCarloEvaluator, Problem
from experiments.lab.measurements import Measurement
from experiments.lab.timing import median_ratio, seconds

CHIPS, IMAGES, RUNS = 25, 2_000, 7
BATCHES = (50, 100, 125, 200, 250, 500, 1000, 2000)


def measure_engine(problem: Problem) -> list[Measurement]:
    """Compare the engine with plain forward passes, on one thread."""
    part = problem.data["val"]
    images, labels = part.inputs(slice(IMAGES)), part.labels[:IMAGES]
    engine = Engine(problem.segments, problem.chips("val"), problem.bank, images, labels)
    network, none = problem.network.model, (0,) * 5
    largest = MonteCarloEvaluator(problem.task, problem.store).space.largest()
    share = MonteCarloEvaluator(problem.task, problem.store).space.shares(largest)["macs"]

    def plain(batch: int) -> None:
        with torch.inference_mode():
            for _ in range(CHIPS):
                for block in images.split(batch):
                    network(block)

    with torch_threads(1):
        best = min(BATCHES, key=lambda batch: statistics.median(seconds(lambda: plain(batch)) for _ in range(3)))
        bare, ours, theirs = median_ratio(lambda: engine.run([none], range(CHIPS)), lambda: plain(best))
        full, _, _ = median_ratio(lambda: engine.run([largest], range(CHIPS)), lambda: plain(best))
    return [
        Measurement(f"plain forwards, {CHIPS} x {IMAGES} images, best batch ({best})", theirs, "s"),
        Measurement(f"Monte-Carlo evaluation, {CHIPS} chips x {IMAGES} images, no blocks", ours, "s"),
        Measurement("evaluation / plain forwards, no blocks", bare, "x", 1.15),
        Measurement("evaluation / plain forwards, all-largest blocks", full, "x", 1.15 * (1 + share)),
    ]


def measure_prefixes(problem: Problem) -> list[Measurement]:
    """Compare a step at the last site with a full evaluation, on one thread."""
    part = problem.data["val"]
    images, labels = part.inputs(slice(IMAGES)), part.labels[:IMAGES]
    keeping, fresh = (
        Engine(problem.segments, problem.chips("val"), problem.bank, images, labels, cache=cache)
        for cache in (PrefixCache(), None)
    )
    first, last = (2, 2, 2, 0, 0), (2, 2, 2, 0, 1)
    keeping.run([first], range(CHIPS))
    steps = cycle([last, (2, 2, 2, 0, 2)])  # the same placement twice would be known
    ratio, _, _ = median_ratio(
        lambda: keeping.run([next(steps)], range(CHIPS)), lambda: fresh.run([last], range(CHIPS))
    )
    a, b = keeping.run([last], range(CHIPS)), fresh.run([last], range(CHIPS))
    difference = float(abs(a.squares - b.squares).max() + abs(a.sums - b.sums).max())
    return [
        Measurement("step at the last site / full evaluation", ratio, "x", 0.40),
        Measurement("largest difference of the two results", difference, "", 1e-6),
    ]


def measure_analog_chain(problem: Problem) -> Measurement:
    """Time the whole chain of Rasch et al. (2023) on one thread; the kit took 1.84 s on two such cores' one thread."""
    images = problem.data["val"].inputs(slice(1_000))
    network = map_network(problem.network.model, preset("rasch2023"), problem.data.image_shape).calibrated(images)
    chip = network.program(torch_generator("bench"))

    def run() -> None:
        with torch.inference_mode(), programmed(network.model, chip):
            for block in images.split(IMAGE_BLOCK):
                network.model(block)

    with torch_threads(1):
        took = statistics.median(seconds(run) for _ in range(RUNS))
    return Measurement("analog chain of rasch2023, LeNet-5, 1,000 images, one thread", took, "s", 1.84)


def measure_enumeration(problem: Problem) -> Measurement:
    """Time the depth-first walk over all placements: 25 chips x 1,000 images, one thread."""
    evaluator = MonteCarloEvaluator(problem.task, problem.store)
    part = problem.data["val"]
    engine = Engine(problem.segments, problem.chips("val"), problem.bank, part.inputs(slice(1000)), part.labels[:1000])
    placements = list(evaluator.space.all_placements())
    took = seconds(lambda: engine.run(placements, range(25), progress=bar))
    return Measurement("all 1,024 placements, 25 chips x 1,000 images, one thread", took, "s")
