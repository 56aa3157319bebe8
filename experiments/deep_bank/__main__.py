"""Does the bank rank placements on all sixteen sites of VGG-16? `python -m experiments.deep_bank [key=value ...]`.

The plan of `experiments.bank_ranking` on another task, without fits from scratch: each would take as long as everything
else together. Needs MNIST in CIMENV_DATA. A finished placement is a line of results/deep_bank/jobs.jsonl.
"""

from __future__ import annotations

import sys

from experiments.bank_ranking.measure import measure
from experiments.bank_ranking.plan import Plan
from experiments.bank_ranking.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("deep_bank", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
