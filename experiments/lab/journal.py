"""The journal of an experiment: a line of JSON for every finished job, so that a killed experiment resumes.

Every line ends with a checksum, so that changed digits are noticed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cimenv.core.checked_rows import CHECK, Checks, unchecked
from cimenv.core.errors import ConfigError
from cimenv.core.files import RECORD, read_bytes
from cimenv.core.writing import append, write_whole, writing
from experiments.lab.rows import Row

JOURNAL = "jobs.jsonl"
SIGNED = re.compile(rf'(\{{.*), "{CHECK}": "([0-9a-f]+)"\}}')


class Named(Protocol):
    """A job: anything with a name that is unique in the experiment."""

    @property
    def name(self) -> str:
        """Return the name."""


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
    """Return the entry that a line holds.

    Raises:
        ValueError: it is no JSON, or its checksum does not fit.
    """
    matched = SIGNED.fullmatch(line)
    text = f"{matched[1]}}}" if matched else line
    if matched and matched[2] != Checks("").of(text):
        raise ValueError(f"the checksum of {text[:40]} does not fit")
    entry: dict[str, Any] = json.loads(text)
    return entry
