"""Measurements of speed and memory, each with what was promised of it: bench.json and table.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.lab.markdown import table


@dataclass(frozen=True)
class Measurement:
    """One measurement: what, the value, its unit, and the promise (None where there is none)."""

    what: str
    value: float
    unit: str
    bound: float | None = None

    @property
    def met(self) -> bool | None:
        """Return whether the value keeps the promise."""
        return None if self.bound is None else self.value <= self.bound


def write_measurements(measurements: Sequence[Measurement], folder: Path, machine: Mapping[str, object]) -> None:
    """Write measurements into a folder as bench.json, which says on what machine, and as table.md; print these."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(each), "met": each.met} for each in measurements]
    (folder / "bench.json").write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")
    text = table(["figure", "measured", "promise"], map(_cells, measurements))
    (folder / "table.md").write_text(text)
    print(text, end="")


def _cells(measurement: Measurement) -> list[str]:
    bound = "" if measurement.bound is None else f"≤ {measurement.bound:.3g} {measurement.unit}".strip()
    mark = "" if measurement.met is not False else " **missed**"
    return [measurement.what, f"{measurement.value:.3g} {measurement.unit}".rstrip(), f"{bound}{mark}"]
