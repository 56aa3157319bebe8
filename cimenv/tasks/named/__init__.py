"""The named tasks: YAML files in this folder."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from cimenv.core.errors import known_name
from cimenv.core.yaml_text import parsed


def named_tasks() -> dict[str, str]:
    """Return the one-line description of every named task, by name."""
    return {name: str(_read(name).get("description", "")) for name in _names()}


def named_task(name: str) -> dict[str, Any]:
    """Return the fields of a named task.

    Raises:
        UnknownNameError: no such task.
    """
    return _read(known_name("task", name, _names()))


def _names() -> list[str]:
    entries = (entry.name for entry in files(__package__).iterdir())
    return sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))


def _read(name: str) -> dict[str, Any]:
    content = parsed(files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), name)
    assert isinstance(content, dict)
    return content
