"""Measure the worst case of LeNet-5 on two data sets: `python -m agents.worst_case [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of
results/worst_case/jobs.jsonl, so the same command goes on where it was stopped. Whenever a job ends, the tables,
targets and figures in results/worst_case/ are written again. runs/worst_case/ keeps what was trained.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agents.study import run_study, study_command
from agents.worst_case.measure import measure
from agents.worst_case.plan import Plan
from agents.worst_case.report import write_results

ROOT = Path(__file__).parents[2]
YAML, FOLDER, OUT = ROOT / "configs/studies/worst_case.yaml", ROOT / "runs/worst_case", ROOT / "results/worst_case"


def run(fields: dict[str, Any]) -> None:
    """Do what is left and write the results after every job."""
    plan = Plan(**fields)
    run_study(
        plan,
        OUT / "jobs.jsonl",
        plan.stages,
        lambda _, job: (measure, (plan, job, FOLDER)),
        lambda journal: write_results(plan, journal, OUT),
    )


if __name__ == "__main__":
    sys.exit(study_command(sys.argv[1:], __doc__, YAML, run, OUT / "table.md"))
