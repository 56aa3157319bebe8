"""What one job measures. Every function returns rows: plain mappings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from cimenv.core.errors import ConfigError
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.evaluators.table import TableEvaluator
from cimenv.tasks.problem import default_store
from experiments.agents.contender import Curve, run
from experiments.agents.plan import Job, Plan
from experiments.lab.placement_row import report
from experiments.lab.rows import Row
from experiments.lab.table_files import located

SHARES = (0.95, 0.99)  # of the optimum
TUNING_SEED = 1_000_000  # runs of the tuning are none of those that are reported


def measure(plan: Plan, job: Job, folder: Path) -> list[Row]:
    """Run one job; `folder` keeps what is trained."""
    works = {"tune": lambda: tune(plan, job), "run": lambda: runs(plan, job), "test": lambda: test(job, folder)}
    rows = works[job.kind]()
    return [{"kind": job.kind, "contender": job.contender, **row} for row in rows]


def runs(plan: Plan, job: Job) -> list[Row]:
    """Run a contender with every seed on a table."""
    assert job.table is not None
    table = TableEvaluator(located(job.table))
    contender, rows = plan.contenders[job.contender], []
    for seed in range(plan.seeds):
        ended = run(contender, job.settings, table, plan.evaluations, seed)
        curve, regret = ended.best_so_far, regrets(ended.best_so_far, table)
        needed = {f"to_{share:g}": first_at(curve, share * table.extremes[0]) for share in SHARES}
        rows.append(
            {
                "table": job.table,
                "seed": seed,
                "placement": list(ended.placement),
                **needed,
                **{f"regret_{point}": float(regret[point - 1]) for point in plan.points},
            }
        )
    return rows


def test(job: Job, folder: Path) -> list[Row]:
    """Measure the placements of a table's contenders, its optimum, and none, on the test split with fitted blocks."""
    assert job.table is not None
    table = TableEvaluator(located(job.table))
    evaluator = MonteCarloEvaluator(table.task, default_store(folder / "store"), threads=1)
    placements = {"none": table.space.empty(), "optimum": table.enumeration.best.placement, **job.settings}
    named: dict[tuple[int, ...], list[str]] = {}
    for name, placement in placements.items():
        named.setdefault(tuple(placement), []).append(name)
    rows = [report(evaluator, " = ".join(names), placement) for placement, names in named.items()]
    return [{"table": job.table, **row} for row in rows]


def regrets(curve: Curve, table: TableEvaluator) -> Curve:
    """Return (J* - J) / (J* - mean J of all feasible placements) along a curve."""
    return np.array([table.regret(value) for value in curve])


def first_at(curve: Curve, wanted: float) -> int | None:
    """Return the number of evaluations after which a curve reaches a value, or None where it never does."""
    reached = np.flatnonzero(curve >= wanted - 1e-12)
    return int(reached[0]) + 1 if len(reached) else None


def tune(plan: Plan, job: Job) -> list[Row]:
    """Try settings of a contender, drawn by Optuna's TPE; return every trial with its regret."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    contender, effort = plan.contenders[job.contender], plan.tuning
    tables = [TableEvaluator(located(name)) for name in effort.tables]
    rows: list[Row] = []

    def regret(trial: optuna.Trial) -> float:
        settings: dict[str, Any] = {}
        for name, span in contender.ranges.items():
            settings[name] = suggested(trial, name, span)
        scores = []
        for k in range(effort.seeds):
            seed = TUNING_SEED + k
            ended = [run(contender, settings, table, effort.evaluations, seed) for table in tables]
            curves = [each.best_so_far for each in ended]
            scores.append([regrets(curve, table)[-1] for curve, table in zip(curves, tables, strict=True)])
        mean = float(np.mean(scores))
        rows.append({"trial": trial.number, "settings": settings, "regret": mean})
        return mean

    trials = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    trials.enqueue_trial({name: contender.settings[name] for name in contender.ranges if name in contender.settings})
    trials.optimize(regret, n_trials=effort.trials)
    return rows


def suggested(trial: optuna.Trial, name: str, span: dict[str, Any] | list[Any]) -> Any:
    """Return a value of a range: `[a, b, c]` is a choice, `{low:, high:, log:}` a number, whole if its bounds are.

    Raises:
        ConfigError: the range is neither.
    """
    if isinstance(span, list):
        return trial.suggest_categorical(name, span)
    try:
        low, high, log = span["low"], span["high"], bool(span.get("log", False))
    except KeyError as error:
        raise ConfigError(f"ranges.{name}: got {span} without {error}; give low and high, or a list.") from None
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    if not math.isfinite(low) or not math.isfinite(high) or low > high:
        raise ConfigError(f"ranges.{name}: got {low} ... {high}; give finite bounds in order.")
    return trial.suggest_float(name, low, high, log=log)
