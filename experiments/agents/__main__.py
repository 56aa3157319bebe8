"""Compare searches and agents on enumerated tables: `python -m experiments.agents [YAML] [key=value ...]`.

One process a core; a finished job is a line of results/agents/jobs.jsonl, so the same command goes on where it was
stopped. Every contender with ranges is tuned first, all with the same number of trials; then everyone runs on every
table with every seed. Writes the CSV files, table.md, targets.json, figures and index.html, one page that needs no
other file.
"""

from __future__ import annotations

import sys

from experiments.agents.measure import measure
from experiments.agents.plan import Plan
from experiments.agents.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("agents", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
