"""Pictures of the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.inert import in_figure
from cimenv.sb3.views import ActionView

Floats = npt.NDArray[np.float64]


def heat_map(names: Sequence[tuple[str, str]], view: ActionView, step: int) -> Any:
    """Return a figure: sites down, options across, the number of action 0 and the favourite in the title.

    Args:
        names: (site, option) of every action but 0.
        view: one number per action.
        step: environment steps so far.
    """
    from matplotlib.figure import Figure

    sites = list(dict.fromkeys(site for site, _ in names))
    width = len(names) // max(len(sites), 1)
    table = view.values[1:].reshape(len(sites), width)
    figure = Figure(figsize=(2.4 + 1.3 * width, 1.4 + 0.5 * len(sites)), layout="constrained")
    axes = figure.subplots()
    low, high = (0.0, max(float(table.max()), 1e-9)) if view.kind == "policy" else (None, None)
    image = axes.imshow(table, vmin=low, vmax=high, cmap="viridis", aspect="auto")
    middle = (float(table.min()) + float(table.max())) / 2
    axes.set_yticks(range(len(sites)), [in_figure(site) for site in sites])
    axes.set_xticks(range(width), [f"option {o + 1}" for o in range(width)])
    for (s, o), value in np.ndenumerate(table):
        bright = value > middle
        label = f"{names[s * width + o][1]}\n{value:.2f}"
        axes.text(o, s, label, ha="center", va="center", fontsize=7, color="black" if bright else "white")
    favourite = "action 0" if view.greedy == 0 else in_figure(" ".join(names[view.greedy - 1]))
    axes.set_title(
        f"first action, step {step}: favourite {favourite}\n{view.what} of action 0: {view.values[0]:.2f}", fontsize=9
    )
    figure.colorbar(image, ax=axes, label=view.what)
    return figure


def error_bars(sites: Sequence[str], none: Floats, placed: Floats, title: str) -> Any:
    """Return a figure: the relative feature error of every site, without and with blocks.

    Args:
        sites: names.
        none: `[sites]`, without blocks.
        placed: `[sites]`, with them.
        title: which placement.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.5, 0.9 * len(sites)), 3.2), layout="constrained")
    axes = figure.subplots()
    x = np.arange(len(sites))
    axes.bar(x - 0.2, none, 0.4, color="#9a9a9a", label="no blocks")
    axes.bar(x + 0.2, placed, 0.4, color="#1f6fb2", label="with these blocks")
    axes.set_xticks(x, [in_figure(site) for site in sites], rotation=30 if len(sites) > 6 else 0)
    axes.set_ylabel("relative feature error, mean over chips")
    axes.set_title(in_figure(title), fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    return figure
