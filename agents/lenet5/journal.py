"""The journal of the study: one line of JSON a finished job, so that a killed study goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from agents.lenet5.plan import Job, Plan
from cimenv.core.errors import ConfigError

Row = dict[str, Any]


class Journal:
    """Rows of finished jobs in a file that is only appended to.

    Args:
        path: the file; its first line fixes what is measured.
        plan: the study's configuration.

    Raises:
        ConfigError: the file belongs to a plan that measures otherwise, or a line is damaged.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.rows: dict[str, list[Row]] = {}
        head = {"plan": plan.measured()}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):  # killed while it wrote
            os.truncate(path, path.stat().st_size - len(lines.pop()))
        if not lines:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(head)
            return
        try:
            first, *rest = [json.loads(line) for line in lines]
            self.rows = {entry["job"]: entry["rows"] for entry in rest}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path} is damaged; restore it or delete it.") from None
        if first != head:
            raise ConfigError(f"{path} holds results of another plan; restore the plan or delete the file.")

    def __contains__(self, job: Job) -> bool:
        return job.name in self.rows

    def add(self, job: Job, rows: list[Row]) -> None:
        """Write the rows of a finished job."""
        self._append({"job": job.name, "rows": rows})
        self.rows[job.name] = rows

    def _append(self, entry: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def merged(self, plan: Plan) -> list[Row]:
        """Return the rows of finished jobs in the plan's order, with the tails merged into them."""
        rows: dict[tuple[Any, ...], Row] = {}
        for job in (job for stage in plan.stages() for job in stage if job in self):
            origin = job.of or job.kind
            for row in self.rows[job.name]:
                key = (origin, *(row[name] for name in ("data", "recipe", "seed", "sigma", "method")))
                rows.setdefault(key, {"job": origin}).update(row)
        return list(rows.values())
