"""Compare one trained LeNet-5 in cimenv and in IBM's aihwkit: `make aihwkit-check`.

Needs aihwkit; runs in an environment of its own. Writes results/aihwkit/chips.csv, summary.json and targets.json.
"""

from __future__ import annotations

import sys

from experiments.aihwkit.measure import compared
from experiments.aihwkit.report import write_results
from experiments.lab.folders import results_of


def main() -> int:
    """Measure both and write what they say; return 1 where they differ."""
    targets = write_results(compared(), results_of("aihwkit"))
    return 0 if all(each["met"] for each in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
