"""Accuracy against cost: the Pareto front and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.inert import in_figure

Floats = npt.NDArray[np.float64]


def pareto_front(costs: Floats, values: Floats) -> npt.NDArray[np.int64]:
    """Return the indices of the points that no other point beats, by rising cost.

    Args:
        costs: `[n]`, smaller is better.
        values: `[n]`, larger is better. Of equal points the first is kept.
    """
    order = np.lexsort((np.arange(len(costs)), -values, costs))
    best = np.maximum.accumulate(values[order])
    rises = np.concatenate([[True], best[1:] > best[:-1]]) if len(order) else np.zeros(0, dtype=bool)
    return order[rises]


def pareto_figure(
    costs: Floats,
    values: Floats,
    named: Mapping[str, tuple[float, float]] | None = None,
    *,
    cost_label: str = "scalar cost",
    value_label: str = "mean accuracy over chips",
    title: str = "",
) -> Any:
    """Return a matplotlib figure: every point, the front as steps, named points as marks.

    Args:
        costs: `[n]`.
        values: `[n]`.
        named: label -> (cost, value).
        cost_label: horizontal axis.
        value_label: vertical axis.
        title: what was measured: split, chips, images, fidelity.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(costs, values, s=9, color="#c0c0c0", label=f"{len(costs)} placements")
    front = pareto_front(costs, values)
    axes.step(costs[front], values[front], where="post", color="#1f77b4", lw=1.2, label="Pareto front")
    axes.plot(costs[front], values[front], ".", color="#1f77b4", ms=5)
    for label, (cost, value) in (named or {}).items():
        axes.plot(cost, value, "*", ms=13, mfc="none", mew=1.5, label=in_figure(label))
    axes.set_xlabel(cost_label)
    axes.set_ylabel(value_label)
    axes.set_title(in_figure(title), fontsize=9)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=4)  # inside it would hide points
    axes.grid(alpha=0.25)
    return figure
