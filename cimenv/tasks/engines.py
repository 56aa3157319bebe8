"""The engines of a problem: what walks the placements of a job."""

from __future__ import annotations

import threading

from cimenv.compensation.bank import CompensationBank
from cimenv.crossbar.batchnorm import batch_norms
from cimenv.data.splits import Split
from cimenv.evaluation.calibration import chip_calibrator
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.memory import GIB, KEPT
from cimenv.evaluation.metrics import metric_named
from cimenv.evaluation.prefix import PrefixCache
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute

KEPT_ACTIVATIONS = 256 * 2**20
KEPT_WIDE_ACTIVATIONS = 2**30  # deep networks of wide convolutions


class Engines:
    """Engines of one problem; those of its bank are kept, with clean outputs, drawn chips and activations.

    Every Python thread has its own.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._kept: dict[tuple[Split, str, int, int], Engine] = {}

    def of(self, split: Split, compute: Compute, blocks: CompensationBank | None = None) -> Engine:
        """Return the engine of a split with the problem's bank, or with other blocks, whose engine is not kept."""
        if blocks is not None and blocks is not self.problem.bank:
            return engine_of(self.problem, split, compute, blocks)
        where = split, compute.device, compute.workers, threading.get_ident()
        if where not in self._kept:
            self._kept[where] = engine_of(self.problem, split, compute)
        return self._kept[where]


def engine_of(
    problem: Problem, split: Split, compute: Compute = Compute(), blocks: CompensationBank | None = None
) -> Engine:
    """Return an engine for the images of a split; with blocks other than the bank it keeps no activations.

    Args:
        problem: network, chips, images.
        split: `val` or `test`.
        compute: where it computes.
        blocks: default the problem's bank.
    """
    task, network = problem.task, problem.network
    limit = int(task.memory_limit * GIB)
    kept = KEPT_WIDE_ACTIVATIONS if network.gains_by_channels_last else KEPT_ACTIVATIONS
    if compute.device != "cpu":  # the chips' weights
        kept = limit
    serving, calibrator = blocks or problem.bank, None
    if task.crossbar.batch_norm == "per_chip" and batch_norms(network.model):
        images = problem.data.train.inputs(slice(task.crossbar.batch_norm_images))
        calibrator = chip_calibrator(network, serving, images)
    return Engine(
        problem.segments,
        problem.chips(split),
        serving,
        *problem.evaluated(split),
        threads=compute.workers,
        device=compute.device,
        precision=task.precision,
        metric=metric_named(task.metric),
        cache=PrefixCache(min(kept, int(KEPT * limit))) if blocks is None else None,
        memory_limit=limit,
        chip_modules=calibrator,
    )
