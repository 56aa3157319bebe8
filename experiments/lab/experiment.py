"""What long experiments share: a journal of finished jobs, and a runner with one process a core.

A finished job is one line of JSON that ends with a checksum, so that a killed experiment goes on where it was, and
changed digits are noticed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from cimenv.core.checked_rows import CHECK, Checks, unchecked, write_rows
from cimenv.core.config import canonical, digest, read_yaml, with_overrides
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.files import RECORD, read_bytes
from cimenv.core.progress import bar
from cimenv.core.writing import append, disk_faults, only_process, write_whole, writing
from cimenv.data import load_data
from cimenv.tasks.evaluators.table import SUFFIX, load_table, table_path

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
LARGE_TABLES = ROOT / "results/agents/tables"  # which the package has no room for
NUMBERS_OF_A_TABLE = {"split", "fidelity", "chips", "images", "reference_accuracy", "clean_accuracy", "gains"}
SIGNED = re.compile(rf'(\{{.*), "{CHECK}": "([0-9a-f]+)"\}}')
REPORT_HELP = "With --report the results of what is done are written, and nothing is computed."


class Named(Protocol):
    """A job: a name that is unique in the experiment."""

    @property
    def name(self) -> str:
        """Return it."""


class Journal:
    """Rows of finished jobs in a file that is only appended to.

    Args:
        path: the file; its first line fixes what is measured.
        measured: the fields of the plan that change a job's numbers.

    Raises:
        ConfigError: the file belongs to a plan that measures otherwise, a line is damaged, or it cannot be written.
    """

    def __init__(self, path: Path, measured: dict[str, Any]) -> None:
        self.path = path
        self.rows: dict[str, list[Row]] = {}
        head = {"plan": measured}
        lines = _whole_lines(path)
        if not lines:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._append(head)
            return
        if not all(map(SIGNED.fullmatch, lines)):
            unchecked(path)
        try:
            first, *rest = [_entry(line) for line in lines]
            self.rows = {entry["job"]: entry["rows"] for entry in rest}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigError(f"{path} is damaged; restore it or delete it.") from None
        if first != head:
            raise ConfigError(f"{path} holds results of another plan; restore the plan or delete the file.")

    def __contains__(self, job: Named) -> bool:
        return job.name in self.rows

    def add(self, job: Named, rows: list[Row]) -> None:
        """Write the rows of a finished job."""
        self._append({"job": job.name, "rows": rows})
        self.rows[job.name] = rows

    def finished(self, stages: Iterable[Sequence[Named]]) -> list[Row]:
        """Return the rows of the jobs that are done, in the order of a plan's stages."""
        return [row for stage in stages for job in stage if job in self for row in self.rows[job.name]]

    def _append(self, entry: dict[str, Any]) -> None:
        append(self.path, _signed(json.dumps(entry)) + "\n")


def sign_journal(path: Path) -> bool:
    """Add checksums to a journal of an earlier version; return whether a line had none.

    Raises:
        ConfigError: a line is damaged.
    """
    lines = _whole_lines(path)
    signed = [line if SIGNED.fullmatch(line) else _signed(line) for line in lines]
    if signed == lines:
        return False
    write_whole(path, "".join(f"{line}\n" for line in signed))
    return True


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a journal; what a kill left of the last one is cut off."""
    data = read_bytes(path, RECORD) if path.exists() else b""
    *lines, rest = data.split(b"\n")
    if rest:
        with writing(path):
            os.truncate(path, len(data) - len(rest))
    return [line.decode("utf-8", "replace") for line in lines]


def _signed(line: str) -> str:
    return f'{line[:-1]}, "{CHECK}": "{Checks("").of(line)}"}}'


def _entry(line: str) -> dict[str, Any]:
    """Return what a line says.

    Raises:
        ValueError: it is no JSON, or its checksum does not fit.
    """
    found = SIGNED.fullmatch(line)
    text = f"{found[1]}}}" if found else line
    if found and found[2] != Checks("").of(text):
        raise ValueError(f"the checksum of {text[:40]} does not fit")
    entry: dict[str, Any] = json.loads(text)
    return entry


def settings_digest(*settings: Any) -> str:
    """Return what ends a job's name: it changes with the settings behind the job's labels."""
    return digest(canonical(list(settings)))[:8]


def located(table: str) -> str:
    """Return the file of a table that does not ship with the package; the name itself of one that does."""
    path = LARGE_TABLES / f"{table}{SUFFIX}"
    return str(path) if path.exists() else table


def tables_digest(tables: Iterable[str]) -> str:
    """Return a digest of what enumerated tables hold; an experiment's jobs are other ones when a table is made again.

    It knows their numbers, not how a file writes them or what digest its weights have.

    Raises:
        ConfigError: a file is missing.
    """
    found = []
    for table in tables:
        path = table_path(located(table))
        if not path.exists():
            raise ConfigError(f"tables: there is no {path}; python -m experiments.tables makes it.")
        found.append(_table_digest(path, path.stat().st_mtime_ns))
    return digest("".join(found))


@lru_cache(maxsize=256)
def _table_digest(path: Path, changed_ns: int) -> str:
    del changed_ns  # it tells a file from what stood there before
    found = load_table(str(path))
    about = found.header.model_dump(mode="json", include=NUMBERS_OF_A_TABLE)
    return digest("\n".join([canonical(about), *(row.text() for row in found.rows)]))


def target(name: str, bound: str, measured: float, met: bool, command: str, **more: Any) -> dict[str, Any]:
    """Return an entry of targets.json; a target that was not measured (NaN) is not met."""
    known = measured == measured
    return {
        "target": name,
        "bound": bound,
        "measured": measured if known else None,
        "met": bool(met and known),
        "command": command,
        **more,
    }


def write_targets(folder: Path, targets: list[dict[str, Any]]) -> None:
    """Write targets.json into a results folder."""
    write_whole(folder / "targets.json", json.dumps(targets, indent=2) + "\n")


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write rows with the union of their columns; a list becomes words."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = ([" ".join(map(str, v)) if isinstance(v := row.get(k, ""), list) else v for k in names] for row in rows)
    write_rows(path, names, cells)


class ExperimentPlan(Protocol):
    """An experiment's configuration."""

    def __init__(self, **fields: Any) -> None: ...

    @property
    def data(self) -> tuple[str, ...]:
        """Return the data sets."""

    def measured(self) -> dict[str, Any]:
        """Return the fields that change a job's numbers."""

    def stages(self, rows: Mapping[str, list[Row]], /) -> Iterable[Sequence[Any]]:
        """Return jobs, from the rows of those that are done; see `run_stages`."""


P = TypeVar("P", bound=ExperimentPlan)


def _nothing(_journal: Journal, _job: Any) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True)
class Experiment(Generic[P]):
    """An experiment: configs/experiments/NAME.yaml is measured into results/NAME; runs/NAME keeps what is trained.

    Attributes:
        name: of its files.
        plan: class of its configuration.
        measure: from plan, job and the folder of what is trained, a job's rows; runs in another process.
        write: from plan, journal and folder, writes tables, targets and figures.
        more: from journal and job, further arguments of `measure`.
    """

    name: str
    plan: type[P]
    measure: Callable[..., list[Row]]
    write: Callable[[P, Journal, Path], None]
    more: Callable[[Journal, Any], tuple[Any, ...]] = _nothing

    @property
    def shown(self) -> str:
        """Return what runs the experiment."""
        return f"python -m experiments.{self.name}"

    def command(self, arguments: list[str], doc: str | None) -> int:
        """Run the experiment from the command line, `[YAML] [key=value ...]`; `doc` is printed for `--help`."""
        if arguments and arguments[0] in ("-h", "--help"):
            print(doc, REPORT_HELP, sep="\n")
            return 0
        only_report = "--report" in arguments
        arguments = [argument for argument in arguments if argument != "--report"]
        given = bool(arguments) and "=" not in arguments[0]
        path = Path(arguments.pop(0)) if given else ROOT / f"configs/experiments/{self.name}.yaml"
        out = ROOT / "results" / self.name
        try:
            plan = self.plan(**with_overrides(read_yaml(path), arguments))
            with disk_faults(out):
                if only_report:
                    self.write(plan, Journal(out / "jobs.jsonl", plan.measured()), out)
                else:
                    self.run(plan, out)
            if not (out / "table.md").exists():
                raise ConfigError(f"{out}: nothing is measured yet; run {self.shown} without --report.")
        except CimenvError as error:
            print(error, file=sys.stderr)
            return 2
        print((out / "table.md").read_text())
        return 0

    def run(self, plan: P, out: Path) -> None:
        """Do what a plan has left, and write the results after every job.

        Raises:
            ConfigError: another process measures into the folder, or it cannot be written.
            DataError: a data set is missing; told before anything is computed.
        """
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        with only_process(out / ".lock", f"Another process measures into {out}; wait until it has finished."):
            journal = Journal(out / "jobs.jsonl", plan.measured())
            for data in plan.data:
                load_data(data)
            folder = ROOT / "runs" / self.name
            run_stages(
                plan.stages(journal.rows),
                journal,
                lambda job: (self.measure, (plan, job, folder, *self.more(journal, job))),
                lambda: self.write(plan, journal, out),
            )


def run_stages(
    stages: Iterable[Sequence[Any]],
    journal: Journal,
    work: Callable[[Any], tuple[Callable[..., list[Row]], tuple[Any, ...]]],
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
