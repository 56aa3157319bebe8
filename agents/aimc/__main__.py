"""Measure networks on the crossbar of Rasch et al. (2023): `python -m agents.aimc [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of results/aimc/jobs.jsonl,
so the same command goes on where it was stopped. Whenever a job ends, the tables, targets and figures in results/aimc/
are written again. runs/aimc/ keeps what was trained.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agents.aimc.measure import measure
from agents.aimc.plan import Plan
from agents.aimc.report import write_results
from agents.study import run_study, study_command

ROOT = Path(__file__).parents[2]
YAML, FOLDER, OUT = ROOT / "configs/studies/aimc.yaml", ROOT / "runs/aimc", ROOT / "results/aimc"


def run(fields: dict[str, Any]) -> None:
    """Do what is left and write the results after every job."""
    plan = Plan(**fields)
    run_study(
        plan,
        OUT / "jobs.jsonl",
        lambda _: plan.stages(),
        lambda _, job: (measure, (plan, job, FOLDER)),
        lambda journal: write_results(plan, journal, OUT),
    )


if __name__ == "__main__":
    sys.exit(study_command(sys.argv[1:], __doc__, YAML, run, OUT / "table.md"))
