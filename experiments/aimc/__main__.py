"""Measure networks on the crossbar of Rasch et al. (2023): `python -m experiments.aimc [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of results/aimc/jobs.jsonl,
so the same command goes on where it was stopped. Whenever a job ends, the tables, targets and figures in results/aimc/
are written again. runs/aimc/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.aimc.measure import measure
from experiments.aimc.plan import Plan
from experiments.aimc.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("aimc", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
