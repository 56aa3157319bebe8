"""Train the four algorithms with several seeds: `python -m experiments.agents_seeds [YAML] [key=value ...]`.

All 1,024 placements of the default task are enumerated first, so that the optimum is known and a run costs only its own
arithmetic; every run still pays for the distinct placements it asks for. A finished run is a line of
results/agents_seeds/jobs.jsonl, so the same command goes on where it was stopped. runs/agents_seeds/ keeps the runs.
"""

from __future__ import annotations

import sys

from experiments.agents_seeds.measure import measure
from experiments.agents_seeds.plan import Plan
from experiments.agents_seeds.report import write_results
from experiments.lab.experiment import Experiment

EXPERIMENT = Experiment("agents_seeds", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(EXPERIMENT.command(sys.argv[1:], __doc__))
