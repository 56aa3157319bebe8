"""Measure VGG-16 at a quarter of its width: `python -m experiments.deep [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of results/deep/jobs.jsonl,
so the same command goes on where it was stopped. Whenever a job ends, the tables, targets and figures in results/deep/
are written again. runs/deep/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.deep.measure import measure
from experiments.deep.plan import Plan
from experiments.deep.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("deep", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
