"""What figures share: panels side by side, and one legend for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def panels(
    columns: int, lines: int = 1, *, width: float, height: float, more: float = 0.0, **shared: Any
) -> tuple[Figure, npt.NDArray[Any]]:
    """Return a figure and its axes, `[lines, columns]`.

    Args:
        columns: panels side by side.
        lines: of panels.
        width: of a panel, in inches.
        height: of a panel.
        more: height for what is common to all.
        shared: further arguments of `Figure.subplots`, such as sharey.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * lines + more), layout="constrained")
    return figure, np.asarray(figure.subplots(lines, columns, squeeze=False, **shared))


def legend_below(figure: Figure, columns: int) -> None:
    """Put one legend below all panels: an entry a label."""
    entries = {
        label: handle for ax in figure.axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(entries.values()),
        list(entries),
        frameon=False,
        fontsize=8,
        ncols=min(columns, len(entries)),
        loc="outside lower center",
    )
