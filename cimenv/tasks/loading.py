"""Tasks from names, files and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cimenv.core.config import checked_keys, merged, read_yaml, with_overrides
from cimenv.core.errors import ConfigError, brief
from cimenv.tasks.named import named_task
from cimenv.tasks.task import Task, written_out


def load_task(task: str | Path | Task | Mapping[str, Any], overrides: list[str] | None = None) -> Task:
    """Return a task from its name, a YAML file, a mapping or a Task; dotted overrides are laid over it.

    A YAML file may say `extends: NAME` to start from a named task.

    Raises:
        UnknownNameError: no such task.
        ConfigError: a field is unknown or holds a value that is not allowed.
    """
    if isinstance(task, Task):
        fields: dict[str, Any] = task.model_dump(mode="json")
    elif isinstance(task, Mapping):
        fields = task_fields(task)
    elif isinstance(task, str | Path) and str(task).endswith((".yaml", ".yml")):
        fields = task_fields(read_yaml(task))
    elif isinstance(task, str | Path):
        fields = task_fields(named_task(str(task)))
    else:
        raise ConfigError(f"task: got {brief(task)}; give a name, a YAML file, a mapping of fields or a Task.")
    if not isinstance(overrides, list | tuple | None):
        raise ConfigError(f"overrides: got {brief(overrides)}; give a list of texts, such as ['chips=8'].")
    for override in overrides or []:
        fields = written_out(with_overrides(fields, [override]))
    loaded = Task.model_validate(fields)
    read_from = task.read_from if isinstance(task, Task) else None
    return loaded if read_from is None else loaded.as_read_from(read_from)


def task_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a task with those of the named tasks that it extends; nothing is checked but these names.

    Raises:
        UnknownNameError: no such task.
        ConfigError: a task extends itself.
    """
    fields, seen = written_out(checked_keys(fields, "task")), []
    while "extends" in fields:
        parent = fields.pop("extends")
        if parent in seen:
            raise ConfigError(f"extends: '{parent}' extends itself; remove the circle.")
        seen.append(parent)
        fields = merged(written_out(named_task(parent)), fields)
    return fields
