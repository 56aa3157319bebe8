"""Pictures of a placement: error along the layers before and after, blocks, accuracy, cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.inert import in_figure, printable
from cimenv.cost.term import COST_TERMS
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.objective import Objective

NONE_COLOUR, PLACED_COLOUR, BLOCK_COLOUR = "#9a9a9a", "#1f6fb2", "#e08a1e"


def as_text(objective: Objective, none: Evaluation, placed: Evaluation) -> str:
    """Return a table of sites, errors without and with the blocks, blocks and their cost."""
    space = objective.space
    blocks, names = space.options.blocks(placed.placement), [printable(site.name) for site in space.sites]
    lines = [f"{'site':<14}{'type':<8}{'error none':>11}{'error now':>11}  {'block':<16}{'weights':>9}{'MACs':>9}"]
    for s, site in enumerate(space.sites):
        block = blocks[s]
        option = placed.placement[s]
        weights, macs = space.terms[s, option, 0], space.terms[s, option, 1]
        lines.append(
            f"{names[s]:<14}{site.type:<8}{none.site_errors[s, 0]:>11.3f}{placed.site_errors[s, 0]:>11.3f}  "
            f"{block.label if block else '-':<16}{weights:>9.2%}{macs:>9.2%}"
        )
    lines.append(summary(objective, placed))
    return "\n".join(lines)


def summary(objective: Objective, placed: Evaluation) -> str:
    """Return one line: accuracy, its references, cost, objective."""
    part = objective.space.shares(placed.placement)
    return (
        f"accuracy {objective.accuracy(placed):.3f} "
        f"(none {objective.acc_none:.3f}, reference {objective.acc_ref:.3f}), "
        f"+{part['weights']:.2%} weights, +{part['macs']:.2%} MACs, +{part['energy']:.2%} energy, "
        f"objective {objective.value(placed):.3f}"
    )


def figure(objective: Objective, none: Evaluation, placed: Evaluation, pyplot: bool = False) -> Any:
    """Return the matplotlib figure of a placement."""
    if pyplot:
        from matplotlib import pyplot as plt

        fig = plt.figure(num="cimenv", figsize=(9, 4.8), clear=True)
    else:
        from matplotlib.figure import Figure

        fig = Figure(figsize=(9, 4.8))
    fig.set_layout_engine("constrained")
    grid = fig.add_gridspec(2, 2, width_ratios=[3, 1])
    _draw_errors(fig.add_subplot(grid[:, 0]), objective, none, placed)
    _draw_accuracy(fig.add_subplot(grid[0, 1]), objective, placed)
    _draw_costs(fig.add_subplot(grid[1, 1]), objective, placed)
    device = objective.task.crossbar.device
    images = f"{placed.chips} chips x {placed.images} {placed.split} images, {placed.fidelity} blocks"
    fig.suptitle(f"{in_figure(objective.task.name)}: {device.label}, {images}", fontsize=10)
    return fig


def _draw_errors(axes: Any, objective: Objective, none: Evaluation, placed: Evaluation) -> None:
    space = objective.space
    x = np.arange(len(space.sites))
    axes.plot(x, none.site_errors[:, 0], "o--", color=NONE_COLOUR, label="no blocks")
    axes.plot(x, placed.site_errors[:, 0], "o-", color=PLACED_COLOUR, label="with these blocks")
    spread = placed.site_errors[:, 1]
    low, high = placed.site_errors[:, 0] - spread, placed.site_errors[:, 0] + spread
    axes.fill_between(x, low, high, color=PLACED_COLOUR, alpha=0.15, label="± std over chips")
    for s, block in enumerate(space.options.blocks(placed.placement)):
        if block is not None:
            axes.axvspan(s - 0.3, s + 0.3, color=BLOCK_COLOUR, alpha=0.18)
            axes.text(
                s,
                0.02,
                block.label,
                ha="center",
                va="bottom",
                transform=axes.get_xaxis_transform(),
                fontsize=8,
            )
    axes.set_xticks(x, [in_figure(site.name) for site in space.sites], rotation=30 if len(x) > 6 else 0)
    axes.set_ylabel("relative feature error ‖Y′−Y‖/‖Y‖")
    axes.set_xlim(-0.5, len(x) - 0.5)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y", alpha=0.3)


def _draw_accuracy(axes: Any, objective: Objective, placed: Evaluation) -> None:
    names = ["reference", "now", "none"]
    values = [objective.acc_ref, objective.accuracy(placed), objective.acc_none]
    bars = axes.barh(names, values, color=["#555555", PLACED_COLOUR, NONE_COLOUR])
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=2, fontsize=8)
    axes.set_xlim(0, 1.25)
    axes.set_xticks([])
    axes.set_title("accuracy", fontsize=9)


def _draw_costs(axes: Any, objective: Objective, placed: Evaluation) -> None:
    part = objective.space.shares(placed.placement)
    values = [part[term] for term in COST_TERMS][::-1]
    bars = axes.barh(list(COST_TERMS)[::-1], values, color=BLOCK_COLOUR)
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=2, fontsize=8)
    axes.set_xlim(0, max(*values, 0.01) * 1.4)
    axes.set_xticks([])
    axes.set_title("added by the blocks", fontsize=9)


def draw(
    objective: Objective, none: Evaluation, placed: Evaluation, show: bool = False
) -> npt.NDArray[np.uint8] | None:
    """Return the picture as pixels `[height, width, 3]`, or show it in a window."""
    if show:
        import matplotlib
        from matplotlib import pyplot as plt

        figure(objective, none, placed, pyplot=True)
        if matplotlib.get_backend().lower() != "agg":
            plt.pause(0.001)
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure(objective, none, placed))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
