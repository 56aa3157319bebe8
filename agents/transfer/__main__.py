"""Train policies on tables and use them on unseen ones: `python -m agents.transfer [YAML] [key=value ...]`.

One process a core; a finished job is a line of results/transfer/jobs.jsonl, so the same command goes on where it was
stopped. runs/transfer/ keeps the policies.
"""

from __future__ import annotations

import sys

from agents.study import Study
from agents.transfer.measure import measure
from agents.transfer.plan import Plan
from agents.transfer.report import write_results

STUDY = Study("transfer", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(STUDY.command(sys.argv[1:], __doc__))
