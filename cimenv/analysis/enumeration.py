"""Evaluate every feasible placement of a task into one file, through kills, full disks and races.

Rows are appended in flushed chunks. Run again, an enumeration goes on where it was stopped, and the finished file is,
byte for byte, that of an uninterrupted run.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

from cimenv.compensation.options import Placement
from cimenv.core.checked_rows import Checks
from cimenv.core.config import canonical
from cimenv.core.device import checked_device
from cimenv.core.errors import ConfigError
from cimenv.core.files import RECORD, read_bytes
from cimenv.core.progress import Advance, silent
from cimenv.core.store import Store
from cimenv.core.writing import only_process, write_whole, writing
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.statistics import statistic_named
from cimenv.tasks.engines import Engines
from cimenv.tasks.evaluators.cluster import JOBS_PER_WORKER, Cluster, in_order
from cimenv.tasks.evaluators.travel import run_shared
from cimenv.tasks.files.enumeration_file import FIRST_ROW, LARGEST, Enumeration, parse, split_lines, with_checksums
from cimenv.tasks.files.header import ENUMERATION_VERSION, MAGIC, EnumeratedSplit, Header, damaged, read_header
from cimenv.tasks.files.row import Row, per_chip
from cimenv.tasks.files.site_shape import SiteShape
from cimenv.tasks.jobs import run_job
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute, Fidelity, Request, chip_numbers
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

FIDELITY: Fidelity = "bank"
FLUSH_S = 3.0  # of work: rows are written about this often
LEAST_CHUNK = 16  # placements; fewer share so few prefixes that 3 at a time take 4 times as long as 27
LARGEST_CHUNK = 4_096


def enumerate_placements(
    task: Task,
    path: str | Path,
    *,
    split: EnumeratedSplit = "val",
    chips: int | None = None,
    store: Store | None = None,
    compute: Compute = Compute(),
    flush_s: float = FLUSH_S,
    cluster: Cluster | None = None,
) -> Enumeration:
    """Evaluate every feasible placement into a file, or go on with one that an earlier run began.

    Evaluates afresh, whatever the store knows; only trained weights come from there. A finished file is returned as
    it is, without training. One that an earlier version wrote gets checksums first.

    Args:
        task: what to enumerate.
        path: the CSV file; `path.lock` beside it keeps a second process away until it is finished.
        split: `val` or `test`.
        chips: chips per placement; default the task's for the split.
        store: where trained weights are kept.
        compute: where to compute; rounding on a GPU may turn an image of a chip.
        flush_s: seconds of work between two writes; at least `LEAST_CHUNK` placements are evaluated together.
        cluster: its workers evaluate, on the device of `compute`; this process writes.

    Raises:
        ConfigError: the file cannot be written, is no enumeration or that of something else, is damaged, or another
            process is writing it; there are too many placements, several times, or a statistic that counts do not tell.
    """
    path = Path(path)
    checked_device(compute.device, here=cluster is None)
    _check_kind(task, path)
    space = PlacementSpace(task)
    numbers = chip_numbers(task, split, FIDELITY, chips)
    placements = _placements(space)
    measured = task.model_copy(update={"memory_limit": Task.model_fields["memory_limit"].default})  # it may change
    planned = {"task": measured.model_dump(mode="json"), "split": split, "fidelity": FIDELITY, "chips": len(numbers)}
    _renew(path, planned, space)
    begun = _begun(path, planned, space)
    if begun is not None and begun.finished and path.read_bytes().endswith(b"\n"):
        return begun
    with _only_writer(path) as file:
        begun = _begun(path, planned, space)  # again, now that nobody else writes, and before anything is trained
        problem = Problem.build(task, store, compute.progress)
        header = _measured(problem, planned)
        if begun is not None:
            _check_same(path, begun.header, header.model_dump(mode="json"))
        _cut(file, path, header)
        rows = list(begun.rows) if begun is not None else []
        before = len(rows)
        work = _Work(problem, header, space, placements, tuple(rows), compute)
        chunks = _evaluated(work, flush_s) if cluster is None else _evaluated_by(cluster, work)
        checks = Checks(header.text())
        for chunk in chunks:
            _append(file, path, "".join(f"{checks.signed(row.text())}\n" for row in chunk))
            rows += chunk
    return Enumeration(path, header, space, tuple(rows), finished=True, new=len(rows) - before)


def _check_kind(task: Task, path: Path) -> None:
    if path.suffix == ".xz":
        raise ConfigError(f"{path}: an enumeration is compressed when it is finished; write {path.stem}, then run xz.")
    if len(task.times_s) > 1:
        raise ConfigError(
            f"times_s is {task.times_s}, and a row holds the counts of one time; enumerate each by itself."
        )
    if not statistic_named(task.statistic).of_chips:
        raise ConfigError("statistic: 'worst_case' does not follow from counts; enumerate with mean or percentile.")


def _placements(space: PlacementSpace) -> list[Placement]:
    count = math.prod(int(row.sum()) for row in space.candidates)
    if count > LARGEST:
        raise ConfigError(
            f"{space.task.name} has {count:,} placements and an enumeration at most {LARGEST:,}; name fewer "
            "`candidates` or `options`, or use `cimenv search`."
        )
    return list(space.all_placements())


def _measured(problem: Problem, planned: Mapping[str, Any]) -> Header:
    split = planned["split"]
    return Header(
        version=ENUMERATION_VERSION,
        **planned,
        sites=SiteShape.of(problem.options.sites),
        images=problem.images(split),
        reference_accuracy=problem.reference_accuracy(split),
        clean_accuracy=problem.clean_accuracy(split),
        weights_digest=problem.weights_digest,
        gains=problem.gains,
        terms=problem.space.term_names,
    )


@dataclass(frozen=True)
class _Work:
    """What is to be enumerated, and the rows that are there already."""

    problem: Problem
    header: Header
    space: PlacementSpace
    placements: Sequence[Placement]
    known: tuple[Row, ...]
    compute: Compute

    def requests(self, placements: Sequence[Placement]) -> list[Request]:
        """Return the requests for some placements."""
        return self.header.requests(placements)

    def shown(self) -> AbstractContextManager[Advance]:
        """Open the bar."""
        return self.compute.progress("enumerating placements", len(self.placements), len(self.known))


def _evaluated(work: _Work, flush_s: float) -> Iterator[list[Row]]:
    """Yield the rows that are missing, in chunks of about `flush_s` seconds; their numbers know no chunks."""
    engines = Engines(work.problem)

    def run(chunk: Sequence[Placement]) -> list[Evaluation]:
        return run_job(engines, work.requests(chunk), replace(work.compute, progress=silent))

    none = work.known[0].per_chip if work.known else per_chip(run(work.placements[:1])[0])
    objective = work.header.objective(work.space, none)
    done, size = len(work.known), LEAST_CHUNK
    with work.shown() as advance:
        while done < len(work.placements):
            start, busy = time.monotonic(), time.process_time()
            chunk = work.placements[done : done + size]
            yield [Row.of(objective, evaluation) for evaluation in run(chunk)]
            advance(len(chunk))
            done += len(chunk)
            # The lesser, lest chunks shrink, and their work grow, because other programs are running.
            took = min(time.monotonic() - start, time.process_time() - busy)
            fitting = int(size * flush_s / max(took, 1e-9))
            size = max(LEAST_CHUNK, min(fitting, 2 * size, LARGEST_CHUNK))


def _evaluated_by(cluster: Cluster, work: _Work) -> Iterator[list[Row]]:
    """Yield the rows that are missing, in chunks for the workers; their numbers know no chunks."""
    shared, left = cluster.share(work.problem), work.placements[len(work.known) :]
    size = -(-len(work.placements) // (JOBS_PER_WORKER * cluster.workers))
    size = min(max(size, LEAST_CHUNK), LARGEST_CHUNK)
    parts = [work.requests(left[start : start + size]) for start in range(0, len(left), size)]
    objective = work.header.objective(work.space, work.known[0].per_chip) if work.known else None
    with work.shown() as advance:
        for chunk in in_order(cluster, [(run_shared, shared, part, work.compute.device) for part in parts]):
            if objective is None:  # the first placement is that without blocks
                objective = work.header.objective(work.space, per_chip(chunk[0]))
            yield [Row.of(objective, evaluation) for evaluation in chunk]
            advance(len(chunk))


def _begun(path: Path, wanted: Mapping[str, Any], space: PlacementSpace) -> Enumeration | None:
    """Return the rows that an earlier run wrote, or None where none did.

    Raises:
        ConfigError: the file holds anything else than the enumeration that is wanted.
    """
    if (lines := _lines(path)) is None:
        return None
    header = read_header(path, lines)
    _check_same(path, header, wanted)
    written = parse(path, lines, header, space)
    for number, row in enumerate(written.rows, FIRST_ROW):
        if wrong := written.disagreements(row):
            raise damaged(path, number, f"{', '.join(wrong)} and the counts disagree")
    return written


def _lines(path: Path) -> list[str] | None:
    """Return the whole lines of a file, or None where there is none, or a kill left less than its first two lines."""
    with writing(path):
        data = read_bytes(path, RECORD) if path.exists() and not path.is_dir() else None
    if data is None:
        return None  # a wrong place is refused when it is to be written
    lines, _ = split_lines(path, data)
    magic = MAGIC.encode()
    return None if len(lines) < 2 and (data.startswith(magic) or magic.startswith(data)) else lines


def _renew(path: Path, wanted: Mapping[str, Any], space: PlacementSpace) -> None:
    """Give a file that an earlier version wrote its sites and checksums, if it is the enumeration that is wanted."""
    lines = _lines(path)
    if lines is None or read_header(path, lines).version == ENUMERATION_VERSION:
        return
    with _only_writer(path):
        written = _begun(path, wanted, space)
        if written is not None and written.header.version != ENUMERATION_VERSION:
            write_whole(path, with_checksums(written))


def _check_same(path: Path, header: Header, wanted: Mapping[str, Any]) -> None:
    there = header.model_dump(mode="json")
    digest = there["weights_digest"]
    if wanted.get("weights_digest", digest) != digest:
        raise ConfigError(
            f"{path} was made with other weights (digest {digest}, here {wanted['weights_digest']}): they were trained "
            "again, on another machine or torch version; enumerate into a new file, or use the cache that made it."
        )
    for name, here in wanted.items():
        if there[name] != here:
            where, old, new = _difference(name, there[name], here)
            raise ConfigError(
                f"{path} holds another enumeration: {where.removeprefix('task.')} is {old} there and {new} here; "
                "enumerate into a new file, or give the same task and options."
            )


def _difference(name: str, there: Any, here: Any) -> tuple[str, str, str]:
    """Return the dotted name of the first field that differs, and both values as JSON."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            if there.get(key) != here.get(key):
                return _difference(f"{name}.{key}", there.get(key), here.get(key))
    old, new = (text if len(text := canonical(value)) <= 60 else text[:57] + "..." for value in (there, here))
    return name, old, new


@contextmanager
def _only_writer(path: Path) -> Iterator[FileIO]:
    """Open the file for reading and appending, while a lock beside it keeps other processes away."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a CSV file.")
    if not path.parent.is_dir():
        raise ConfigError(f"Cannot write {path}: there is no folder {path.parent}; make it first.")
    lock = path.with_name(f"{path.name}.lock")
    taken = f"Another process is enumerating into {path}; wait until it has finished, or enumerate into another file."
    # Unbuffered: what did not fit is not written again when the file is closed.
    with writing(path), open(path, "a+b", buffering=0) as file, only_process(lock, taken):
        yield file
    with suppress(OSError):  # finished: a process that comes now finds nothing left to write
        lock.unlink()


def _cut(file: FileIO, path: Path, header: Header) -> None:
    """Drop what a kill left of a row; begin a file that lacks one of its first two lines."""
    with writing(path):
        file.seek(0)
        data = file.read()
        begun = data.count(b"\n") >= 2
        file.truncate(data.rfind(b"\n") + 1 if begun else 0)
    if not begun:
        _append(file, path, header.text())


def _append(file: FileIO, path: Path, text: str) -> None:
    with writing(path):
        left = memoryview(text.encode())
        while left:  # a disk that fills up takes a part, and says so of the next
            left = left[file.write(left) :]
        os.fsync(file.fileno())
