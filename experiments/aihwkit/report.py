"""From the comparison to results/aihwkit: chips.csv, summary.json and targets.json."""

from __future__ import annotations

import json
import math
from pathlib import Path

from experiments.aihwkit.measure import CHIPS, IMAGES, TIMES_S, Comparison
from experiments.lab.rows import Row, write_csv
from experiments.lab.targets import Target, target, write_targets

COMMAND = "make aihwkit-check"


def write_results(comparison: Comparison, out: Path) -> list[Target]:
    """Write everything; return the targets."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = [
        {"t_s": t_s, "chip": chip, "cimenv": comparison.ours[k, chip], "aihwkit": comparison.theirs[k, chip]}
        for k, t_s in enumerate(TIMES_S)
        for chip in range(CHIPS)
    ]
    write_csv(out / "chips.csv", rows)
    times = [about_time(comparison, k) for k in range(len(TIMES_S))]
    summary = {"clean": comparison.clean, "seconds": comparison.seconds, "times": times}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    targets = [agreement(row) for row in times]
    write_targets(out, targets)
    print(json.dumps(summary, indent=2))
    return targets


def about_time(comparison: Comparison, k: int) -> Row:
    """Return the means over chips at one time, and the standard error of their difference."""
    ours, theirs = comparison.ours[k], comparison.theirs[k]
    error = math.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / CHIPS)
    means = {"cimenv": float(ours.mean()), "aihwkit": float(theirs.mean())}
    return {"t_s": TIMES_S[k], **means, "standard_error": error}


def agreement(row: Row) -> Target:
    """Return whether both agree at one time."""
    difference, allowed = row["cimenv"] - row["aihwkit"], 2 * row["standard_error"]
    name = f"accuracy at {row['t_s']:g} s, cimenv - aihwkit, {CHIPS} chips x {IMAGES} images"
    bound = f"within 2 combined standard errors, {allowed:.5f}"
    return target(name, bound, difference, abs(difference) <= allowed, COMMAND)
