"""The two pictures of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.tasks import MonteCarloEvaluator, Objective

MARKS = {
    "none": ("X", "#555555"),
    "affine": ("v", "#8c564b"),
    "agent": ("*", "#d62728"),
    "agent_best": ("P", "#ff7f0e"),
    "greedy": ("s", "#2ca02c"),
    "knapsack": ("D", "#9467bd"),
    "optimum": ("o", "#1f77b4"),
    "all": ("^", "#17becf"),
}


def accuracy_against_weights(path: Path, evaluator: MonteCarloEvaluator, tested: Mapping[str, Evaluation]) -> None:
    """Save two panels: all enumerated placements on validation, and the named ones on test with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    space = evaluator.space
    everything = evaluator.evaluate_many(list(space.all_placements()))
    costs = np.array([space.scalar_cost(e.placement) for e in everything])
    means = np.array([e.value("mean") for e in everything])
    left.scatter(costs, means, s=5, color="#c7c7c7", label=f"all {len(everything)} placements")
    order = np.lexsort((-means, costs))
    best = np.maximum.accumulate(means[order])
    left.step(costs[order], best, where="post", color="#1f77b4", lw=1, label="Pareto front")
    for name, evaluation in tested.items():
        marker, colour = MARKS[name]
        searched = evaluator.evaluate(evaluation.placement)
        left.plot(space.scalar_cost(searched.placement), searched.value("mean"), marker, **_style(name, colour))
    left.set_xlabel("scalar cost (mean of the energy and MAC shares)")
    left.set_ylabel("mean accuracy over chips")
    left.set_title(f"validation, shared blocks, {evaluator.task.chips} chips", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    for name, evaluation in tested.items():
        marker, colour = MARKS[name]
        interval = evaluation.interval("mean")
        assert interval is not None
        mean = evaluation.value("mean")
        right.errorbar(
            space.shares(evaluation.placement)["weights"] * 100,
            mean,
            yerr=[[mean - interval[0]], [interval[1] - mean]],
            fmt=marker,
            capsize=3,
            **_style(name, colour),
            label=name.replace("_", " "),
        )
    right.axhline(evaluator.reference_accuracy("test"), color="#555555", ls=":", lw=1, label="standard, clean")
    right.set_xlabel("added weights, %")
    chips = next(iter(tested.values())).chips
    right.set_title(f"test, tuned blocks, {chips} fresh chips, 95 % intervals", fontsize=10)
    right.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def _style(name: str, colour: str) -> dict[str, Any]:
    """Draw the agent as a large hollow star, so that a mark under it stays visible."""
    if name == "agent":
        return {"color": colour, "ms": 17, "mfc": "none", "mew": 1.5, "zorder": 5}
    return {"color": colour, "ms": 9, "mec": "white"}


def draw_network(path: Path, evaluator: MonteCarloEvaluator, placement: Placement) -> None:
    """Save the picture of a placement as the environment renders it."""
    from cimenv.envs.render import figure

    none, placed = evaluator.evaluate(evaluator.space.empty()), evaluator.evaluate(placement)
    figure(Objective.of(evaluator), none, placed).savefig(path, dpi=110)
