"""Measure the worst case of LeNet-5 on two data sets: `python -m experiments.worst_case [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of
results/worst_case/jobs.jsonl, so the same command goes on where it was stopped. Whenever a job ends, the tables,
targets and figures in results/worst_case/ are written again. runs/worst_case/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.lab.experiment import Experiment
from experiments.worst_case.measure import measure
from experiments.worst_case.plan import Plan
from experiments.worst_case.report import write_results

EXPERIMENT = Experiment("worst_case", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
