"""Compare one trained LeNet-5 in cimenv and in IBM's aihwkit: `make aihwkit-check`.

Needs aihwkit; runs in an environment of its own. Writes results/aihwkit/chips.csv, summary.json and targets.json.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cimenv.core.progress import bar
from cimenv.crossbar.aihwkit import to_analog_model
from cimenv.tasks import MonteCarloEvaluator, load_task
from experiments.lab.targets import target, write_targets

OUT = Path(__file__).parents[2] / "results/aihwkit"
CHIPS, IMAGES, TIMES = 25, 1_000, (3_600.0, 31_536_000.0)


def kit_accuracies(problem: Any, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return accuracy `[times, chips]` in aihwkit, every chip programmed afresh."""
    model: Any = to_analog_model(problem.network)
    found = np.zeros((len(TIMES), CHIPS))
    with torch.no_grad(), bar("chips in aihwkit", CHIPS) as advance:
        for chip in range(CHIPS):
            model.program_analog_weights()
            for k, t_s in enumerate(TIMES):
                model.drift_analog_weights(t_s)
                correct = sum(
                    int((model(x).argmax(-1) == y).sum())
                    for x, y in zip(images.split(250), labels.split(250), strict=True)
                )
                found[k, chip] = correct / len(labels)
            advance()
    return found


def main() -> int:
    """Measure both and write what they say."""
    overrides = ["recipe=standard", "chips=25"]
    task = load_task("lenet5-fashion-mini", overrides).with_changes(crossbar={"preset": "rasch2023"}, times_s=TIMES)
    task = task.model_copy(update={"options": {}, "report_images": IMAGES, "report_chips": CHIPS})
    evaluator = MonteCarloEvaluator(task, progress=bar)
    problem = evaluator.problem
    images, labels = problem.evaluated("test")
    start = time.perf_counter()
    ours = evaluator.evaluate((0,) * 5, "test").correct / len(labels)
    middle = time.perf_counter()
    theirs = kit_accuracies(problem, images, labels)
    seconds = {"cimenv": middle - start, "aihwkit": time.perf_counter() - middle}
    OUT.mkdir(parents=True, exist_ok=True)
    with (OUT / "chips.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["t_s", "chip", "cimenv", "aihwkit"])
        for k, t_s in enumerate(TIMES):
            rows.writerows([t_s, chip, ours[k, chip], theirs[k, chip]] for chip in range(CHIPS))
    targets, times = [], []
    for k, t_s in enumerate(TIMES):
        difference = float(ours[k].mean() - theirs[k].mean())
        error = math.sqrt((ours[k].var(ddof=1) + theirs[k].var(ddof=1)) / CHIPS)
        times.append(
            {"t_s": t_s, "cimenv": float(ours[k].mean()), "aihwkit": float(theirs[k].mean()), "standard_error": error}
        )
        targets.append(
            target(
                f"accuracy at {t_s:g} s, cimenv - aihwkit, {CHIPS} chips x {len(labels)} images",
                f"within 2 combined standard errors, {2 * error:.5f}",
                difference,
                abs(difference) <= 2 * error,
                "make aihwkit-check",
            )
        )
    summary = {"clean": problem.clean_accuracy("test"), "seconds": seconds, "times": times}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    write_targets(OUT, targets)
    print(json.dumps(summary, indent=2))
    return 0 if all(found["met"] for found in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
