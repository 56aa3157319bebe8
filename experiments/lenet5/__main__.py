"""Measure LeNet-5 on full MNIST and Fashion-MNIST: `python -m experiments.lenet5 [YAML] [key=value ...]`.

Needs both data sets in CIMENV_DATA. One process a core; a finished job is a line of results/lenet5/jobs.jsonl, so the
same command goes on where it was stopped. Whenever a job ends, results.csv, table.md, targets.json and the four figures
in results/lenet5/ are written again. runs/lenet5/ keeps what was trained.
"""

from __future__ import annotations

import sys

from experiments.lab.experiment import Experiment
from experiments.lab.journal import Journal
from experiments.lab.rows import Row
from experiments.lenet5.measure import measure
from experiments.lenet5.plan import Job, Plan
from experiments.lenet5.report import write_results


def _before(journal: Journal, job: Job) -> tuple[list[Row]]:
    return (journal.rows.get(job.parent, []),)


EXPERIMENT = Experiment("lenet5", Plan, measure, write_results, _before)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
