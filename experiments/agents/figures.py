"""The figures of results/agents."""

from __future__ import annotations

from itertools import cycle, product
from typing import TYPE_CHECKING

import numpy as np

from cimenv.core.inert import in_figure
from experiments.agents.results import Results
from experiments.agents.tables import ranked
from experiments.lab.statistics import bootstrap_interval, interquartile_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOOR = 1e-3  # regret below it is drawn there
AGENTS = ("maskable_ppo", "maskable_ppo_reset", "ppo", "a2c", "dqn", "lstm_controller", "one_step")
DRAWS = 400


def curves(results: Results) -> Figure:
    """Draw regret against distinct evaluations: interquartile means, those of agents with their intervals.

    Contenders that found the same in every run share a line; no two lines share colour and dashes.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    ax, colors = figure.subplots(), colormaps["tab10"]
    styles = {True: cycle(product(("-",), range(10))), False: cycle(product(("--", ":"), range(10)))}
    for names in _alike(results):
        scores = [results.regret(names[0], point) for point in results.points]
        middle = np.maximum([interquartile_mean(each) for each in scores], FLOOR)
        agent = any(name in AGENTS for name in names)
        dashes, number = next(styles[agent])
        color = colors(number)
        ax.plot(
            results.points, middle, dashes, color=color, lw=2.2 if agent else 1.3, label=in_figure(", ".join(names))
        )
        if agent:
            bands = np.maximum([bootstrap_interval(each, draws=DRAWS) for each in scores], FLOOR)
            ax.fill_between(results.points, bands[:, 0], bands[:, 1], color=color, alpha=0.12, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="distinct evaluations", ylabel="regret of the best placement so far")
    ax.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8, ncols=1, loc="outside right center")
    return figure


def _alike(results: Results) -> list[list[str]]:
    """Return the contenders in order of their regret, those together that have the same in every run."""
    alike: dict[bytes, list[str]] = {}
    for name in ranked(results, results.points[-1]):
        same = b"".join(results.regret(name, point).tobytes() for point in results.points)
        alike.setdefault(same, []).append(name)
    return list(alike.values())


def tuning(results: Results) -> Figure:
    """Draw the regret of every trial of the tuning: how much a method depends on its settings."""
    from matplotlib.figure import Figure

    names = [name for name in ranked(results, results.points[-1]) if len(results.tuned(name))]
    figure = Figure(figsize=(7, 1 + 0.32 * max(len(names), 1)), layout="constrained")
    ax = figure.subplots()
    for k, name in enumerate(names):
        trials = np.maximum(results.tuned(name), FLOOR)
        ax.scatter(trials, np.full(len(trials), k), s=14, alpha=0.6, color="#1f77b4", lw=0)
        ax.scatter(np.median(trials), k, marker="|", s=160, color="#d62728")
    ax.set_yticks(range(len(names)), [in_figure(name) for name in names], fontsize=8)
    ax.set(xscale="log", xlabel="regret of a trial of the tuning (red: median)")
    ax.invert_yaxis()
    ax.grid(alpha=0.25, axis="x")
    return figure
