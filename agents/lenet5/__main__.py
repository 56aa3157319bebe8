"""Measure LeNet-5 on full MNIST and Fashion-MNIST: `python -m agents.lenet5 [YAML] [key=value ...]`.

Needs both data sets in CIMENV_DATA. One process a core; a finished job is a line of results/lenet5/jobs.jsonl, so the
same command goes on where it was stopped. Whenever a job ends, results.csv, table.md, targets.json and the four figures
in results/lenet5/ are written again. runs/lenet5/ keeps what was trained.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agents.lenet5.measure import measure
from agents.lenet5.plan import Plan
from agents.lenet5.report import merged, write_results
from agents.study import run_study, study_command

ROOT = Path(__file__).parents[2]
YAML, FOLDER, OUT = ROOT / "configs/studies/lenet5.yaml", ROOT / "runs/lenet5", ROOT / "results/lenet5"


def run(fields: dict[str, Any]) -> None:
    """Do what is left and write the results after every job."""
    plan = Plan(**fields)
    run_study(
        plan,
        OUT / "jobs.jsonl",
        lambda _: plan.stages(),
        lambda journal, job: (measure, (plan, job, FOLDER, journal.rows.get(job.parent, []))),
        lambda journal: write_results(plan, merged(plan, journal), OUT),
    )


if __name__ == "__main__":
    sys.exit(study_command(sys.argv[1:], __doc__, YAML, run, OUT / "table.md"))
