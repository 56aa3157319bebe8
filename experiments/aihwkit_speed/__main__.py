"""Time chips of one LeNet-5 in cimenv and in IBM's aihwkit: `make bench-aihwkit`.

Needs aihwkit; runs in an environment of its own. Writes results/aihwkit_speed/bench.csv and targets.json.
"""

from __future__ import annotations

import os
import sys

import torch

from experiments.aihwkit_speed.measure import IMAGES, timed
from experiments.lab.folders import results_of
from experiments.lab.rows import Row, write_csv
from experiments.lab.targets import Target, target, write_targets

OUT, COMMAND = results_of("aihwkit_speed"), "make bench-aihwkit"


def main() -> int:
    """Time all and write what was found; return 1 where a promise is missed."""
    rows = timed()
    targets = [each for row in rows for each in promises(row)]
    OUT.mkdir(parents=True, exist_ok=True)
    write_csv(OUT / "bench.csv", rows)
    write_targets(OUT, targets)
    print((OUT / "bench.csv").read_text(), f"torch {torch.__version__}, {os.cpu_count()} cores", sep="")
    return 0 if all(each["met"] for each in targets) else 1


def promises(row: Row) -> list[Target]:
    """Return the promises for one number of threads."""
    threads, faster, slower = row["threads"], row["aihwkit_over_cimenv"], row["cimenv_over_plain"]
    where = f"{threads} thread{'s' * (threads > 1)}, a chip x {IMAGES} images"
    return [
        target(f"aihwkit / cimenv, {where}", ">= 10", faster, faster >= 10, COMMAND),
        target(f"cimenv / plain digital forward, {where}", "<= 4", slower, slower <= 4, COMMAND),
    ]


if __name__ == "__main__":
    sys.exit(main())
