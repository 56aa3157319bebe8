"""What was promised of agents on the deep task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.compare.results import Results
from agents.statistics import interquartile_mean, probability_of_improvement
from agents.study import target

COMMAND = "python -m agents.compare"
DEEP, EARLY = "deep", 60
AGENTS = ("maskable_ppo_reset", "maskable_ppo")
RIVALS = ("random", "genetic", "tpe")


def targets(groups: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Return the entries of targets.json; nothing without the deep task, NaN where a run is missing."""
    results = groups.get(DEEP)
    if results is None or EARLY not in results.points:
        return []
    return [entry for agent in AGENTS if agent in results.contenders for entry in _of_agent(results, agent)]


def _of_agent(results: Results, agent: str) -> list[dict[str, Any]]:
    last = results.points[-1]

    def regret(name: str, point: int) -> float:
        return interquartile_mean(results.regret(name, point)) if name in results.contenders else float("nan")

    def beyond(rival: str, point: int) -> float:
        return regret(agent, point) - regret(rival, point)

    found = [target(f"{agent}: regret at {last}", "<= 0.02", regret(agent, last), regret(agent, last) <= 0.02, COMMAND)]
    if "random" in results.contenders:
        for point in (EARLY, last):
            better = probability_of_improvement(-results.regret(agent, point), -results.regret("random", point))
            name = f"{agent}: probability of improvement over random at {point}"
            found.append(target(name, ">= 0.75", better, better >= 0.75, COMMAND))
    for rival in RIVALS:
        name = f"{agent}: regret at {EARLY} beyond {rival} at {EARLY}"
        found.append(target(name, "<= 0", beyond(rival, EARLY), beyond(rival, EARLY) <= 0, COMMAND))
    ended = beyond("knapsack", last)
    return [*found, target(f"{agent}: regret at {last} beyond knapsack at its end", "printed", ended, True, COMMAND)]
