"""Compare searches and agents on enumerated tables: `python -m agents.compare [YAML] [key=value ...]`.

One process a core; a finished job is a line of results/agents/jobs.jsonl, so the same command goes on where it was
stopped. Every contender with ranges is tuned first, all with the same number of trials; then everyone runs on every
table with every seed. `python -m agents.report` draws what was found.
"""

from __future__ import annotations

import sys

from agents.compare.measure import measure
from agents.compare.plan import Plan
from agents.compare.report import write_results
from agents.study import Study

STUDY = Study("agents", Plan, measure, write_results)

if __name__ == "__main__":
    sys.exit(STUDY.command(sys.argv[1:], __doc__))
