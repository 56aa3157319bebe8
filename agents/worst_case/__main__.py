"""Measure the worst case of LeNet-5 on two data sets: `python -m agents.worst_case [YAML] [key=value ...]`.

Needs MNIST and Fashion-MNIST in CIMENV_DATA. One process a core; a finished job is a line of
results/worst_case/jobs.jsonl, so the same command goes on where it was stopped. Whenever a job ends, the tables,
targets and figures in results/worst_case/ are written again. runs/worst_case/ keeps what was trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agents.study import Journal, run_stages
from agents.worst_case.measure import measure
from agents.worst_case.plan import Plan
from agents.worst_case.report import write_results
from cimenv.core.config import read_yaml, with_overrides
from cimenv.core.errors import CimenvError
from cimenv.data import load_data

ROOT = Path(__file__).parents[2]
YAML, FOLDER, OUT = ROOT / "configs/studies/worst_case.yaml", ROOT / "runs/worst_case", ROOT / "results/worst_case"


def run(plan: Plan, folder: Path, out: Path) -> None:
    """Do what is left and write the results after every job."""
    journal = Journal(out / "jobs.jsonl", plan.measured())
    for data in plan.data:  # a missing data set is told at once, in one sentence
        load_data(data)
    run_stages(
        plan.stages(), journal, lambda job: (measure, (plan, job, folder)), lambda: write_results(plan, journal, out)
    )


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    path = arguments.pop(0) if arguments and "=" not in arguments[0] else YAML
    try:
        run(Plan(**with_overrides(read_yaml(path), arguments)), FOLDER, OUT)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    print((OUT / "table.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
