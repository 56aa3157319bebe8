"""Measure every training under every physics on LeNet-5: `python -m experiments.cross [YAML] [key=value ...]`.

Needs Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of results/cross/jobs.jsonl, so the
same command goes on where it was stopped. Whenever a job ends, results.csv, table.md and the figure in results/cross/
are written again. runs/cross/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.cross.measure import measure
from experiments.cross.plan import Plan
from experiments.cross.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("cross", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
