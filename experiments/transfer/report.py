"""From the journal to results/transfer: results.csv, table.md, summary.md, targets.json."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from experiments.lab.journal import Journal
from experiments.lab.markdown import table
from experiments.lab.rows import NAN, Row, select, write_csv
from experiments.lab.statistics import (
    Scores,
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    probability_of_improvement,
)
from experiments.lab.targets import Target, target, write_targets
from experiments.transfer.plan import Plan

COMMAND = "python -m experiments.transfer"
Methods = Mapping[tuple[str, str], Scores]  # (method, evaluations) -> regret [seeds, tables x variants]
POLICIES = ("errors_only", "policy", "committee")
LEARNED = (*POLICIES, "transfer")  # from the training tables
LIMITS = {"noise": 0.1, "stronger_noise": 0.1, "recipe": 0.1, "family": 0.2, "data": 0.2}


def write_results(plan: Plan, journal: Journal, out: Path) -> None:
    """Write everything that follows from the rows of the jobs that are done."""
    rows = journal.finished(plan.stages(journal.rows))
    if not rows:
        return
    write_csv(out / "results.csv", rows)
    unseen = [row for row in rows if row["unseen"]]
    by_split = {name: methods(select(unseen, held_out=name)) for name in plan.held_out}
    text = regrets(plan, {name: each for name, each in by_split.items() if each}) + fronts_table(plan, unseen)
    (out / "table.md").write_text(text)
    (out / "summary.md").write_text(summary(plan, by_split))
    write_targets(out, targets(plan, by_split))


def methods(rows: list[Row]) -> Methods:
    """Return regret by method and evaluations, `[seeds, tables x variants]`; a method without draws has one seed."""
    cells: dict[tuple[str, str], dict[tuple[str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted((row for row in rows if "method" in row), key=lambda row: int(row["seed"])):
        evaluations = "its own" if row["evaluations"] is None else str(row["evaluations"])
        cells[row["method"], evaluations][row["table"], row["variant"]].append(row["regret"])
    return {key: np.array([by_task[task] for task in sorted(by_task)]).T for key, by_task in cells.items()}


def regrets(plan: Plan, by_split: Mapping[str, Methods]) -> str:
    """Return every method's regret on what was held out."""
    head = ["held out", "method", "evaluations", "regret", "policy at 0 better", f"policy at {plan.evaluations} better"]
    caption = (
        "Regret (J* - J) / (J* - mean J) on tables that neither the policy nor `transfer` saw: interquartile mean over "
        f"tables, {len(plan.variants)} budgets and prices, and seeds with its 95 % stratified-bootstrap interval; "
        "probability that the policy does better, without an evaluation and with as many as the searches.\n\n"
    )
    lines = []
    for name, by_method in by_split.items():
        for (method, evaluations), scores in by_method.items():
            low, high = bootstrap_interval(scores)
            better = [
                "" if method in POLICIES else chance(by_method.get(("policy", str(count))), scores)
                for count in (0, plan.evaluations)
            ]
            regret = f"{interquartile_mean(scores):.1%} [{low:.1%}, {high:.1%}]"
            lines.append([name, method, evaluations, regret, *better])
    return caption + table(head, lines, words=2)


def summary(plan: Plan, by_split: Mapping[str, Methods]) -> str:
    """Return the regrets that matter most, one column for everything that was held out."""
    few = str(plan.evaluations)
    shown = (
        [("fit_log", "0")]
        + [(each, "0") for each in LEARNED]
        + [("tpe", few)]
        + [(each, few) for each in LEARNED]
        + [("knapsack", "its own")]
    )
    lines = [["best rule of thumb", "0", *_shares(_best_rule(each) for each in by_split.values())]]
    for key in shown:
        if all(key in by_method for by_method in by_split.values()):
            scores = (interquartile_mean(by_method[key]) for by_method in by_split.values())
            lines.append([key[0].replace("_", " "), key[1], *_shares(scores)])
    return table(["method", "evaluations", *(name.replace("_", " ") for name in by_split)], lines)


def _shares(values: Iterable[float]) -> list[str]:
    return [f"{value:.1%}" for value in values]


def _best_rule(by_method: Methods) -> float:
    """Return the least regret of the rules that look at no log, whichever it is."""
    left_out = (*LEARNED, "fit_log")
    rules = [scores for (each, count), scores in by_method.items() if count == "0" and each not in left_out]
    return min((interquartile_mean(scores) for scores in rules), default=NAN)


def fronts_table(plan: Plan, rows: list[Row]) -> str:
    """Return how much of the exact front's hypervolume one policy and NSGA-II reach on what was held out."""
    swept = [row for row in rows if "front" in row]
    if not swept:
        return ""
    caption = (
        f"\nFronts of score against scalar cost on the same tables: one policy asked at {len(plan.prices)} prices, and "
        "NSGA-II: share of the exact front's hypervolume, interquartile mean over tables and seeds.\n\n"
    )
    lines = []
    for name in plan.held_out:
        kinds: dict[str, list[Row]] = defaultdict(list)
        for row in select(swept, held_out=name):
            kinds[f"{row['front']} {row.get('budget', '')}"].append(row)
        for kind, each in kinds.items():
            count = f"{np.mean([row['evaluations'] for row in each]):.0f}"
            reached = interquartile_mean(np.array([[row["hypervolume"]] for row in each]))
            lines.append([name, kind.split()[0], count, f"{reached:.1%}"])
    return caption + table(["held out", "method", "distinct evaluations", "hypervolume"], lines, words=2)


def chance(ours: Scores | None, theirs: Scores) -> str:
    """Return the probability of improvement with its interval, as words."""
    if ours is None:
        return ""
    low, high = improvement_interval(-ours, -theirs)
    return f"{probability_of_improvement(-ours, -theirs):.2f} [{low:.2f}, {high:.2f}]"


def targets(plan: Plan, by_split: Mapping[str, Methods]) -> list[Target]:
    """Return every target with what was measured: of policies, of committees, of the search `transfer`."""
    return [
        each
        for method in LEARNED
        for name, by_method in by_split.items()
        if (method, "0") in by_method
        for each in _targets(plan, method, name, by_method)
    ]


def _targets(plan: Plan, method: str, name: str, by_method: Methods) -> list[Target]:
    few, limit = str(plan.evaluations), LIMITS.get(name, 0.2)
    regrets = {key: interquartile_mean(scores) for key, scores in by_method.items()}
    zero, some = (regrets.get((method, count), NAN) for count in ("0", few))
    listed = [
        target(f"{method}, {name} held out: regret without an evaluation", f"<= {limit}", zero, zero <= limit, COMMAND),
        _beyond(f"{method}, {name}: the same beyond the best rule of thumb", zero - _best_rule(by_method)),
        _beyond(f"{method}, {name}: the same beyond the rule fit_log", zero - regrets.get(("fit_log", "0"), NAN)),
    ]
    listed += [
        _beyond(f"{method}, {name}: regret at {few} beyond {search} at {few}", some - regrets.get((search, few), NAN))
        for search in plan.searches
    ]
    theirs = regrets.get(("knapsack", "its own"), NAN)
    return [
        *listed,
        _beyond(f"{method}, {name}: regret at {few} beyond knapsack at its own budget", some - theirs, "<= 0"),
    ]


def _beyond(name: str, gap: float, bound: str = "< 0") -> Target:
    return target(name, bound, gap, gap < 0 or (gap == 0 and "=" in bound), COMMAND)
