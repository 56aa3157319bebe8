"""What the environments add to evaluations."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from cimenv.core.store import Store
from cimenv.core.threads import torch_threads
from cimenv.envs import CompensationEnv, TabularVectorEnv
from cimenv.tasks import MonteCarloEvaluator, load_task
from experiments.lab.measurements import Measurement
from experiments.lab.timing import seconds

RUNS = 7


def measure_environment(store: Store) -> list[Measurement]:
    """Measure what the environment adds to an evaluation, on a miss and on a hit, and a second reset."""
    evaluator = MonteCarloEvaluator(load_task("lenet5-fashion-mini"), store)
    env = CompensationEnv(evaluator=evaluator)
    env.reset(seed=0)
    spent: list[float] = []
    original = evaluator.answers

    def timed(*arguments: object, **named: object) -> object:
        start = time.perf_counter()
        try:
            return original(*arguments, **named)  # type: ignore[arg-type]
        finally:
            spent.append(time.perf_counter() - start)

    evaluator.answers = timed  # type: ignore[method-assign, assignment]
    options = env.layout.options
    misses: list[tuple[float, float]] = []
    hits: list[tuple[float, float]] = []
    for option in range(options):
        for site in range(env.max_sites):
            for outcomes in (misses, hits):
                env.reset()
                spent.clear()
                total = seconds(lambda site=site, option=option: env.step(1 + site * options + option))  # type: ignore[misc]
                outcomes.append((total - sum(spent), total))
    return [
        Measurement(
            "environment overhead on a miss", statistics.median(own / total for own, total in misses), "", 0.02
        ),
        Measurement("step on a hit", statistics.median(total for _, total in hits) * 1e3, "ms", 1.0),
        Measurement("second reset", statistics.median(seconds(lambda: env.reset()) for _ in range(RUNS)), "s", 0.5),
    ]


def measure_tabular_environments() -> list[Measurement]:
    """Time steps of the tabular environments as arrays, on one core: with all infos, and with masks alone."""
    measurements = []
    for what, count, infos, steps, bound_us in (
        ("4,096 environments, all infos", 4_096, "all", 200, 0.2),
        ("one environment, masks", 1, "mask", 10_000, 10.0),
    ):
        envs = TabularVectorEnv(count, infos=infos)
        envs.reset(seed=0)
        draws = np.random.default_rng(0)
        actions = [draws.integers(1, envs.transitions.actions, size=count) for _ in range(50)]

        def run(envs: TabularVectorEnv = envs, actions: list[Any] = actions, steps: int = steps) -> None:
            for step in range(steps):
                envs.step(actions[step % len(actions)])

        with torch_threads(1):
            took = statistics.median(seconds(run) for _ in range(RUNS)) / (steps * count)
        measurements.append(Measurement(f"tabular step, {what}", took * 1e6, "us", bound_us))
    return measurements
