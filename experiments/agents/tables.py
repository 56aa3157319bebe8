"""The table of results/agents/table.md."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from experiments.agents.results import Results
from experiments.lab.markdown import table
from experiments.lab.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    probability_of_improvement,
)

BASE = "random"
SHOWN = (10, 60, 300)  # evaluations


def ranked(results: Results, point: int) -> list[str]:
    """Return the contenders, the smallest interquartile mean of regret first."""
    return sorted(results.contenders, key=lambda name: interquartile_mean(results.regret(name, point)))


def text_of(groups: Mapping[str, Results]) -> str:
    """Return the results of all contenders on every group of tables, as Markdown."""
    return "\n".join(
        f"## {group}\n\n{_about(results)}{_regrets(results)}{_tested(results)}" for group, results in groups.items()
    )


def summary_of(groups: Mapping[str, Results]) -> str:
    """Return the regret of all contenders on groups of tables as Markdown; those with the same numbers share a line.

    The order is that of the last group, after as many evaluations as the middle column shows.
    """
    points = {group: _shown(results) for group, results in groups.items()}
    last = [*groups.values()][-1]
    shown = [*points.values()][-1]
    equals: dict[tuple[str, ...], list[str]] = {}
    for name in ranked(last, shown[len(shown) // 2]):
        cells = tuple(
            f"{interquartile_mean(results.regret(name, point)):.1%}" if name in results.contenders else ""
            for group, results in groups.items()
            for point in points[group]
        )
        equals.setdefault(cells, []).append(name)
    head = [f"{group.replace('_', ' ')}: {point}" for group, here in points.items() for point in here]
    return table(["distinct evaluations", *head], [[", ".join(names), *cells] for cells, names in equals.items()])


def _shown(results: Results) -> list[int]:
    return sorted({*SHOWN, results.points[-1]} & set(results.points))


def _about(results: Results) -> str:
    lines = [
        [row["table"], row["placements"], f"{row['chips']} x {row['images']}", row["indistinguishable"]]
        for row in results.about
    ]
    return table(["table", "placements", "chips x images", "within two standard errors of the best"], lines) + "\n"


def _regrets(results: Results) -> str:
    points = _shown(results)
    first = points[len(points) // 2]
    head = ["", *(f"regret at {point}" for point in points), f"better than {BASE} at {first}"]
    head += ["evaluations to 95 %", "to 99 %", "tuning: median trial"]
    caption = (
        f"Regret (J* - J) / (J* - mean J): interquartile mean over tables ({len(results.tables)}) x "
        f"seeds ({len(results.seeds)}) with its 95 % stratified-bootstrap interval, after so many DISTINCT "
        "evaluations. Evaluations to a share of the optimum: median, - where fewer than half of the runs get there. "
        "Tuning: regret of the median trial, how much it matters that a method is tuned.\n\n"
    )
    lines = [[name, *_cells(results, name, points, first)] for name in ranked(results, first)]
    missing = f"\nNot finished: {', '.join(results.missing)}.\n" if results.missing else ""
    return caption + table(head, lines) + missing


def _tested(results: Results) -> str:
    """Return what the placements that most runs of a contender ended with give on the test split."""
    if not results.tested:
        return ""
    first = results.tested[0]
    caption = (
        f"\nWhat most runs of a contender ended with, on {first['chips']} fresh chips x {first['images']} test images "
        "with blocks fitted for the placement (fidelity `tuned`); J on validation.\n\n"
    )
    lines = []
    for row in results.tested:
        error = 2 * float(row["std"]) / math.sqrt(int(row["chips"]))
        shares = (f"{float(row[term]):.2%}" for term in ("weights", "macs"))
        accuracy = f"{float(row['mean']):.2%} ± {error:.2%}"
        lines.append([row["table"], row["method"], f"{float(row['objective']):.3f}", accuracy, *shares])
    return caption + table(["table", "who ended there", "J", "accuracy", "weights", "MACs"], lines, words=2)


def _cells(results: Results, name: str, points: list[int], first: int) -> list[str]:
    cells = []
    for point in points:
        scores = results.regret(name, point)
        low, high = bootstrap_interval(scores)
        cells.append(f"{interquartile_mean(scores):.1%} [{low:.1%}, {high:.1%}]")
    cells.append(_improvement(results, name, first))
    for share in (0.95, 0.99):
        middle = float(np.median(results.evaluations_to(name, share)))
        cells.append(f"{middle:.0f}" if np.isfinite(middle) else "-")
    tried = results.tuned(name)
    return [*cells, f"{np.median(tried):.1%} of {len(tried)}" if len(tried) else "no settings"]


def _improvement(results: Results, name: str, point: int) -> str:
    if name == BASE or BASE not in results.contenders:
        return ""
    ours, theirs = (-results.regret(each, point) for each in (name, BASE))
    low, high = improvement_interval(ours, theirs)
    return f"{probability_of_improvement(ours, theirs):.2f} [{low:.2f}, {high:.2f}]"
