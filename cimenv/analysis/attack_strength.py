"""Attack strength against budget: the curve of one worst-case search as rows and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimenv.core.checked_rows import write_rows
from cimenv.core.inert import in_figure
from cimenv.evaluation.worst_case import Point


def write_curve(path: str | Path, curve: Sequence[Point]) -> None:
    """Write one row per point: member, start, step, passes, accuracy, worst so far.

    Raises:
        ConfigError: the file cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Point)]
    write_rows(Path(path), names, map(dataclasses.astuple, curve))


def curve_figure(curve: Sequence[Point], clean: float, title: str = "") -> Any:
    """Return a matplotlib figure: accuracy of every iterate, one colour a member, and the worst so far.

    Args:
        curve: of a worst-case search.
        clean: accuracy without deviation.
        title: what was attacked: network, bound, split, images.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(clean, color="#888888", lw=0.8, ls="--", label="clean")
    for number, member in enumerate(dict.fromkeys(point.member for point in curve)):
        own = [point for point in curve if point.member == member]
        passes, accuracies = [point.passes for point in own], [point.accuracy for point in own]
        axes.plot(passes, accuracies, ".", ms=3, color=f"C{number % 10}", label=member)
    axes.step(
        [p.passes for p in curve], [p.worst for p in curve], where="post", color="black", lw=1.5, label="ensemble"
    )
    axes.set_xlabel("passes over all images")
    axes.set_ylabel("accuracy at the deviation")
    axes.set_title(in_figure(title), fontsize=9)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return figure
