"""Measure LeNet-5 on full MNIST and Fashion-MNIST: `python -m agents.lenet5 [YAML] [key=value ...]`.

Needs both data sets in CIMENV_DATA. One process a core; a job's rows are kept in runs/lenet5/jobs/, so the same
command goes on where it was stopped. Whenever a job ends, results/lenet5/ is written again: results.csv, table.md,
targets.json and four figures.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from agents.lenet5.measure import measure
from agents.lenet5.plan import Job, Plan
from agents.lenet5.report import write_results
from cimenv.core.config import read_yaml, with_overrides
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.progress import bar
from cimenv.data import load_data

ROOT = Path(__file__).parents[2]
YAML, FOLDER, OUT = ROOT / "configs/studies/lenet5.yaml", ROOT / "runs/lenet5", ROOT / "results/lenet5"


def run(plan: Plan, folder: Path, out: Path, workers: int) -> None:
    """Do what is left, one process a core, and write the results after every job."""
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    known = folder / "plan.json"
    if known.exists() and json.loads(known.read_text()) != plan.model_dump(mode="json"):
        raise ConfigError(f"{folder} holds jobs of another plan; delete it or restore the plan.")
    known.write_text(plan.model_dump_json())
    for data in plan.data:  # a missing data set is told at once, in one sentence
        load_data(data)
    for stage in plan.stages():
        left = [job for job in stage if not _file(folder, job).exists()]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            _work(pool, plan, left, folder, out)
    write_results(plan, folder, out)


def _work(pool: ProcessPoolExecutor, plan: Plan, jobs: list[Job], folder: Path, out: Path) -> None:
    futures: dict[Future[list[dict[str, Any]]], Job] = {pool.submit(measure, plan, j, folder): j for j in jobs}
    with bar("jobs of the study", len(jobs)) as advance:
        for future in as_completed(futures):
            path = _file(folder, futures[future])
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(future.result()))
            os.replace(temporary, path)
            write_results(plan, folder, out)
            advance()


def _file(folder: Path, job: Job) -> Path:
    return folder / "jobs" / f"{job.name}.json"


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    path = arguments.pop(0) if arguments and "=" not in arguments[0] else YAML
    try:
        plan = Plan(**with_overrides(read_yaml(path), arguments))
        run(plan, FOLDER, OUT, workers=os.cpu_count() or 1)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    print((OUT / "table.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
