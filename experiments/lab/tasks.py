"""A task as a plan names it: one that ships or a file, with some fields changed."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cimenv.core.config import Frozen
from cimenv.tasks import Task, load_task


class ChangedTask(Frozen):
    """A task with changes."""

    task: str
    set: dict[str, Any] = Field({}, description="fields of the task that are changed")

    def made(self) -> Task:
        """Return the task."""
        return load_task(self.task).with_changes(**self.set)
