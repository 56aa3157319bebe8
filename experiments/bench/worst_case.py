"""Attacks, percentiles over many chips, and the training against the worst case."""

from __future__ import annotations

import statistics

import torch

from cimenv.core.progress import bar
from cimenv.core.seeding import torch_generator
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.worst_case import AttackTarget, WorstCaseSearch, worst_case
from cimenv.tasks import Problem
from cimenv.training import recipe_named
from experiments.lab.measurements import Measurement
from experiments.lab.timing import epoch_of, median_ratio, seconds

IMAGES = 2_000


def measure_worst_case(problem: Problem) -> list[Measurement]:
    """Time attacks, a percentile over many chips, and the training against the worst case."""
    part, threads, empty = problem.data["test"], torch.get_num_threads(), (0,) * 5
    target = AttackTarget(problem.network, part.inputs(slice(IMAGES)), part.labels[:IMAGES], threads=threads)
    search = WorstCaseSearch(bound=0.03)
    draws = torch_generator("bench")
    full = seconds(lambda: worst_case(target, search, draws, progress=bar))
    start = [target.zero()]  # a search starts from what the ensemble found without blocks
    quick = statistics.median(
        seconds(lambda: worst_case(target, search.quick(), draws, transferred=start)) for _ in range(3)
    )
    images, labels = part.inputs(slice(1000)), part.labels[:1000]
    engine = Engine(problem.segments, problem.chips("test"), problem.bank, images, labels, threads=threads)
    tail = seconds(lambda: engine.run([empty], range(1000), progress=bar))
    ratio, _, _ = median_ratio(
        epoch_of(problem, recipe_named("a_trice")), epoch_of(problem, recipe_named("noise")), runs=3
    )
    return [
        Measurement(f"worst-case ensemble, {IMAGES} images", full, "s", 60.0),
        Measurement("worst case of a search, 500 images", quick, "s", 3.0),
        Measurement("percentile, 1000 chips x 1000 images", tail, "s", 60.0),
        Measurement("epoch of a_trice / epoch of noise", ratio, "x", 3.5),
    ]
