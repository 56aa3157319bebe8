"""The four figures of results/lenet5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cimenv.analysis.pareto import pareto_front
from experiments.lab.figures import panels

if TYPE_CHECKING:
    from experiments.lenet5.report import Results

MARKS = {
    "none": ("X", "#555555"),
    "affine": ("v", "#8c564b"),
    "digital_equal_cost": ("p", "#bcbd22"),
    "digital_equal_weights": ("h", "#e377c2"),
    "knapsack": ("D", "#9467bd"),
    "greedy": ("s", "#2ca02c"),
    "agent": ("*", "#d62728"),
    "optimum": ("o", "#1f77b4"),
    "most_accurate": ("P", "#ff7f0e"),
    "all_largest": ("^", "#17becf"),
}


def draw_all(results: Results, out: Path) -> None:
    """Save every figure."""
    figures = {
        "accuracy_against_sigma": against_sigma,
        "accuracy_against_weights": against_weights,
        "error_growth": error_growth,
        "first_varied_layer": first_varied_layer,
    }
    for name, draw in figures.items():
        draw(results).savefig(out / f"{name}.png", dpi=120)


def against_sigma(results: Results) -> Any:
    """Draw test accuracy against sigma for every recipe, with the agent's blocks as stars."""
    plan = results.plan
    figure, axes = panels(len(plan.data), width=5.2, height=4.0)
    for ax, data in zip(axes[0], plan.data, strict=True):
        for number, recipe in enumerate(plan.recipes):
            rows = [
                (
                    sigma,
                    [
                        row["mean"]
                        for row in results.select(job="bare", data=data, recipe=recipe, sigma=sigma, method="none")
                    ],
                )
                for sigma in plan.sigmas
            ]
            known = [(sigma, means) for sigma, means in rows if means]
            if not known:
                continue
            sigmas = [sigma for sigma, _ in known]
            line = ax.plot(sigmas, [np.mean(m) for _, m in known], ".-", color=f"C{number}", label=recipe)[0]
            ax.fill_between(
                sigmas, [min(m) for _, m in known], [max(m) for _, m in known], color=f"C{number}", alpha=0.15
            )
            for sigma in plan.block_sigmas:
                mean = results.mean("mean", job="blocks", data=data, recipe=recipe, sigma=sigma, method="agent")
                ax.plot(sigma, mean, "*", ms=11, mfc="none", mew=1.4, color=line.get_color())
        ax.plot([], [], "*", ms=11, mfc="none", color="#555555", label="with the agent's blocks")
        ax.set_title(f"{data}: test, {plan.chips} chips x {plan.images} images", fontsize=10)
        ax.set_xlabel("sigma of the log-normal variation")
        ax.grid(alpha=0.25)
    axes[0][0].set_ylabel("mean accuracy over chips (band: training seeds)")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def against_weights(results: Results) -> Any:
    """Draw test accuracy against added weights at the first block sigma, one row of panels a recipe."""
    plan = results.plan
    figure, axes = panels(len(plan.data), len(plan.block_recipes), width=5.2, height=3.2)
    for line, recipe in zip(axes, plan.block_recipes, strict=True):
        for ax, data in zip(line, plan.data, strict=True):
            points = []
            for method, (marker, colour) in MARKS.items():
                at = {"job": "blocks", "data": data, "recipe": recipe, "sigma": plan.block_sigmas[0], "method": method}
                weights, mean = results.mean("weights", **at), results.mean("mean", **at)
                if np.isnan(mean):
                    continue
                points.append((weights, mean))
                star = {"ms": 15, "mfc": "none", "mew": 1.4} if method == "agent" else {"ms": 7, "mec": "white"}
                ax.plot(weights * 100, mean, marker, color=colour, label=method.replace("_", " "), **star)
            if points:
                costs, values = np.array(points).T
                front = pareto_front(costs, values)
                ax.step(costs[front] * 100, values[front], where="post", color="#1f77b4", lw=1, alpha=0.6)
            ax.set_title(f"{data}, {recipe}, sigma {plan.block_sigmas[0]:g}", fontsize=9)
            ax.grid(alpha=0.25)
        line[0].set_ylabel("mean test accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("added weights, %")
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right upper")
    return figure


def error_growth(results: Results) -> Any:
    """Draw the relative feature error along the layers, without and with the agent's blocks."""
    plan = results.plan
    figure, axes = panels(len(plan.data), width=5.2, height=4.0)
    for ax, data in zip(axes[0], plan.data, strict=True):
        for number, recipe in enumerate(plan.block_recipes):
            for method, style in (("none", "o--"), ("agent", "*-")):
                at = {"job": "blocks", "data": data, "recipe": recipe, "sigma": plan.block_sigmas[0], "method": method}
                rows = results.select(**at)
                if rows:
                    error = np.mean([row["site_error"] for row in rows], axis=0)
                    label = f"{recipe}, {'no blocks' if method == 'none' else 'agent'}"
                    ax.plot(range(1, len(error) + 1), error, style, color=f"C{number}", label=label)
        ax.set_title(f"{data}, sigma {plan.block_sigmas[0]:g}", fontsize=10)
        ax.set_xlabel("layer (1 is next to the input)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25)
    axes[0][0].set_ylabel("relative feature error, mean over chips")
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    return figure


def first_varied_layer(results: Results) -> Any:
    """Draw accuracy against the first varied layer at the largest sigma: layers before it are exact."""
    plan = results.plan
    figure, axes = panels(len(plan.data), width=5.2, height=4.0)
    sigma = plan.sigmas[-1]
    for ax, data in zip(axes[0], plan.data, strict=True):
        for number, recipe in enumerate(plan.recipes):
            methods = ["none", *sorted({r["method"] for r in results.rows if r["method"].startswith("from_site")})]
            at = {"job": "bare", "data": data, "recipe": recipe, "sigma": sigma}
            means = [results.mean("mean", method=method, **at) for method in methods]
            ax.plot(range(1, len(means) + 1), means, ".-", color=f"C{number}", label=recipe)
        ax.set_title(f"{data}, sigma {sigma:g}", fontsize=10)
        ax.set_xlabel("first varied layer (1: all vary)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.25)
    axes[0][0].set_ylabel("mean test accuracy")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    return figure
