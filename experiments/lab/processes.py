"""Jobs in processes, one a core: stage after stage, every finished job into the journal."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from cimenv.core.progress import bar
from experiments.lab.journal import Journal
from experiments.lab.rows import Row

Call = tuple[Callable[..., list[Row]], tuple[Any, ...]]


def run_stages(
    stages: Iterable[Sequence[Any]],
    journal: Journal,
    work: Callable[[Any], Call],
    after: Callable[[], None],
    workers: int | None = None,
) -> None:
    """Do the jobs that are left, stage after stage, one process of one torch thread a core.

    Args:
        stages: jobs; those of a stage need only the stages before it.
        journal: of what is done.
        work: from a job, the function that measures it in another process, and its arguments.
        after: called whenever a job is done.
        workers: processes; default one a core.
    """
    spawn = multiprocessing.get_context("spawn")
    for stage in stages:
        left = [job for job in stage if job not in journal]
        with (
            ProcessPoolExecutor(workers or os.cpu_count(), spawn, _start_worker) as pool,
            bar("jobs", len(left)) as advance,
        ):
            done = {pool.submit(function, *given): job for job in left for function, given in [work(job)]}
            try:
                for future in as_completed(done):
                    journal.add(done[future], future.result())
                    after()
                    advance()
            except BaseException:  # what runs is finished by its process, but nothing new begins
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    after()


def _start_worker() -> None:
    """Run torch on one thread, and end with the parent even where that was killed."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
