"""Measure every promised speed: `python -m experiments.bench` (make bench).

Ratios are taken in one run, medians of several. Leaves results/bench/bench.json, table.md and targets.json.
"""

from __future__ import annotations

import os
import platform
import tempfile

import torch

from cimenv.core.progress import bar
from cimenv.core.store import Store
from cimenv.tasks import Problem, load_task
from cimenv.tasks.problem import SHIPPED
from experiments.bench.cluster import measure_cluster
from experiments.bench.deep import measure_deep_networks
from experiments.bench.engine import measure_analog_chain, measure_engine, measure_enumeration, measure_prefixes
from experiments.bench.environment import measure_environment, measure_tabular_environments
from experiments.bench.memory import measure_memory
from experiments.bench.start import measure_demo, measure_start
from experiments.bench.worst_case import measure_worst_case
from experiments.lab.folders import results_of
from experiments.lab.measurements import Measurement, write_measurements
from experiments.lab.targets import target, write_targets

OUT = results_of("bench")


def measured() -> list[Measurement]:
    """Measure everything; what a user waits for first, before the machine is hot and its memory full."""
    starts = measure_start()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, layers=(SHIPPED,))
        problem = Problem.build(load_task("lenet5-fashion-mini"), store, bar)
        return [
            *measure_engine(problem),
            *measure_prefixes(problem),
            *measure_environment(store),
            measure_enumeration(problem),
            measure_cluster(problem),
            measure_analog_chain(problem),
            measure_memory(store),
            *measure_deep_networks(),
            *measure_tabular_environments(),
            *measure_worst_case(problem),
            *starts,
            *measure_demo(),
        ]


def main() -> None:
    """Measure, and write what was measured."""
    machine = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    everything = measured()
    write_measurements(everything, OUT, machine)
    promised = [each for each in everything if each.bound is not None]
    targets = [target(each.what, f"<= {each.bound}", each.value, bool(each.met), "make bench") for each in promised]
    write_targets(OUT, targets)


if __name__ == "__main__":
    main()
