"""Enumerations by worker processes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.tasks import Problem
from cimenv.tasks.evaluators.cluster import Cluster
from experiments.lab.measurements import Measurement
from experiments.lab.timing import seconds


def measure_cluster(problem: Problem) -> Measurement:
    """Compare enumerations by one and by two worker processes of one thread each: medians of three, after a first."""
    from distributed import LocalCluster

    took: list[float] = []
    for workers in (1, 2):
        local: Any = LocalCluster  # which has no types
        with (
            local(n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as scheduler,
            Cluster(scheduler.scheduler_address) as cluster,
            tempfile.TemporaryDirectory() as folder,
        ):
            paths = iter(Path(folder, f"{k}.csv") for k in range(4))
            enumerate_next = partial(enumerate_on, cluster, problem, paths)
            took.append(statistics.median([seconds(enumerate_next) for _ in range(4)][1:]))
    return Measurement("time of two cluster workers / one, all 1,024 placements", took[1] / took[0], "x", 1 / 1.8)


def enumerate_on(cluster: Cluster, problem: Problem, paths: Iterator[Path]) -> None:
    """Enumerate a problem into the next file."""
    enumerate_placements(problem.task, next(paths), store=problem.store, cluster=cluster)
