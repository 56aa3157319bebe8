"""Train policies on tables and use them on unseen ones: `python -m experiments.transfer [YAML] [key=value ...]`.

One process a core; a finished job is a line of results/transfer/jobs.jsonl, so the same command goes on where it was
stopped. runs/transfer/ keeps the policies.
"""

from __future__ import annotations

import sys

from experiments.lab.experiment import Experiment
from experiments.transfer.measure import measure
from experiments.transfer.plan import Plan
from experiments.transfer.report import write_results

EXPERIMENT = Experiment("transfer", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
