"""What was promised of an experiment, with what was measured: targets.json in its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cimenv.core.writing import write_whole

TARGETS = "targets.json"
Target = dict[str, Any]


def target(name: str, bound: str, measured: float, met: bool, command: str, **more: Any) -> Target:
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


def write_targets(folder: Path, targets: list[Target]) -> None:
    """Write targets.json into a folder.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_whole(folder / TARGETS, json.dumps(targets, indent=2) + "\n")
