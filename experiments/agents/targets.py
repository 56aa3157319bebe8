"""What was promised of agents on the deep tasks."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.agents.results import COMMAND, Results
from experiments.lab.rows import NAN
from experiments.lab.statistics import interquartile_mean, probability_of_improvement
from experiments.lab.targets import Target, target

JUDGED, EARLY = {"five_sites": "", "eight_sites": "eight sites, "}, 60  # groups, and how their targets begin
AGENTS = ("maskable_ppo_reset", "maskable_ppo")
RIVALS = ("random", "genetic", "tpe")


def targets(groups: Mapping[str, Results]) -> list[Target]:
    """Return the entries of targets.json; nothing without the deep tasks, NaN where a run is missing."""
    return [
        entry
        for group, begin in JUDGED.items()
        if group in groups and EARLY in groups[group].points
        for agent in AGENTS
        if agent in groups[group].contenders
        for entry in _of_agent(groups[group], agent, begin)
    ]


def _of_agent(results: Results, agent: str, begin: str) -> list[Target]:
    last = results.points[-1]

    def regret(name: str, point: int) -> float:
        return interquartile_mean(results.regret(name, point)) if name in results.contenders else NAN

    def beyond(rival: str, point: int) -> float:
        return regret(agent, point) - regret(rival, point)

    who = f"{begin}{agent}"
    entries = [target(f"{who}: regret at {last}", "<= 0.02", regret(agent, last), regret(agent, last) <= 0.02, COMMAND)]
    if "random" in results.contenders:
        for point in (EARLY, last):
            better = probability_of_improvement(-results.regret(agent, point), -results.regret("random", point))
            name = f"{who}: probability of improvement over random at {point}"
            entries.append(target(name, ">= 0.75", better, better >= 0.75, COMMAND))
    for rival in RIVALS:
        name = f"{who}: regret at {EARLY} beyond {rival} at {EARLY}"
        entries.append(target(name, "<= 0", beyond(rival, EARLY), beyond(rival, EARLY) <= 0, COMMAND))
    ended = beyond("knapsack", last)
    return [*entries, target(f"{who}: regret at {last} beyond knapsack at its end", "printed", ended, True, COMMAND)]
