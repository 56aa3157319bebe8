"""Does the one-shot bank rank placements as fits of their own do? `python -m experiments.bank_ranking [key=value ...]`.

For 40 random placements: accuracy with the bank's blocks, with blocks fitted from scratch for this placement alone, and
with the bank's blocks tuned further. A finished placement is a line of results/bank_ranking/jobs.jsonl, so the same
command goes on where it was stopped. runs/bank_ranking/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.bank_ranking.measure import measure
from experiments.bank_ranking.plan import Plan
from experiments.bank_ranking.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("bank_ranking", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
