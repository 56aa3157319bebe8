"""What was promised of agents on the deep task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.compare.results import Results
from agents.statistics import interquartile_mean, probability_of_improvement
from agents.study import target

COMMAND = "python -m agents.compare"
DEEP, AGENT, EARLY = "deep", "maskable_ppo", 60
RIVALS = ("random", "genetic", "tpe")


def targets(groups: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Return the entries of targets.json; nothing without the deep task, NaN where a run is missing."""
    results = groups.get(DEEP)
    if results is None or AGENT not in results.contenders or EARLY not in results.points:
        return []
    last = results.points[-1]

    def regret(name: str, point: int) -> float:
        return interquartile_mean(results.regret(name, point)) if name in results.contenders else float("nan")

    def gap(rival: str, point: int) -> float:
        return regret(AGENT, point) - regret(rival, point)

    found = [target(f"{AGENT}: regret at {last}", "<= 0.02", regret(AGENT, last), regret(AGENT, last) <= 0.02, COMMAND)]
    if "random" in results.contenders:
        for point in (EARLY, last):
            better = probability_of_improvement(-results.regret(AGENT, point), -results.regret("random", point))
            name = f"{AGENT}: probability of improvement over random at {point}"
            found.append(target(name, ">= 0.75", better, better >= 0.75, COMMAND))
    for rival in RIVALS:
        name = f"{AGENT}: regret at {EARLY} beyond {rival} at {EARLY}"
        found.append(target(name, "<= 0", gap(rival, EARLY), gap(rival, EARLY) <= 0, COMMAND))
    ended = gap("knapsack", last)
    return [*found, target(f"{AGENT}: regret at {last} beyond knapsack at its end", "printed", ended, True, COMMAND)]
