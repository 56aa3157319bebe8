"""Does memory stay flat? Ten thousand steps of the environment, most of which evaluate a new placement.

As many before them let allocators and caches fill.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from cimenv.core.progress import bar
from cimenv.core.store import Store
from cimenv.envs import CompensationEnv
from cimenv.tasks import MonteCarloEvaluator, load_task, space
from cimenv.tasks.evaluators import monte_carlo as evaluators
from experiments.lab.measurements import Measurement

STEPS, WARM, EVERY = 20_000, 10_000, 100
REMEMBERED = 200  # evaluations and costs kept in memory, so that what is remembered on purpose is no growth
OPTIONS = [{"kind": "affine"}, *({"kind": "low_rank", "size": size} for size in (0.03125, 0.0625, 0.125, 0.25))]


def held_mib() -> float:
    """Return the memory that the process holds for itself now; its peak where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("RssAnon:")[1].split()[0]) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def memory_over_steps(store: Store, steps: int = STEPS) -> npt.NDArray[np.float64]:
    """Walk at random through 7,776 placements of LeNet-5; return rows of step, MiB, evaluations so far."""
    before = evaluators.REMEMBERED, space.REMEMBERED
    evaluators.REMEMBERED = space.REMEMBERED = REMEMBERED
    task = load_task("lenet5-fashion-mini", ["chips=1", "images=125", "bank.steps=0", "memory_limit=0.1"]).with_changes(
        options={"conv": OPTIONS, "dense": OPTIONS}
    )
    env = CompensationEnv(evaluator=MonteCarloEvaluator(task, store, threads=1))
    draws, rows = np.random.default_rng(0), []
    seen = np.zeros((1 + len(OPTIONS),) * len(task.sites()), dtype=bool)
    env.reset(seed=0)
    try:
        with bar("walking through the environment", steps) as advance:
            for step in range(steps):
                allowed = np.flatnonzero(env.action_masks())
                action = draws.choice(allowed[1:]) if len(allowed) > 1 and draws.random() < 0.9 else np.int64(0)
                _, _, terminated, truncated, info = env.step(action)
                seen[tuple(info["placement"])] = True
                if terminated or truncated:
                    env.reset()
                if step % EVERY == 0:
                    rows.append((step, held_mib(), int(seen.sum())))
                advance()
    finally:
        evaluators.REMEMBERED, space.REMEMBERED = before
    return np.array(rows, dtype=np.float64)


def growth(rows: npt.NDArray[np.float64], warm: int = WARM) -> tuple[float, float]:
    """Return MiB of growth over the steps after the first `warm`, by Theil and Sen's slope, and its lower bound."""
    later = rows[rows[:, 0] >= warm]
    slope, _, low, _ = stats.theilslopes(later[:, 1], later[:, 0], alpha=0.95)
    span = later[-1, 0] - later[0, 0]
    return float(slope * span), float(low * span)


def measure_memory(store: Store) -> Measurement:
    """Measure what the process holds more after 10,000 steps of the environment."""
    grown, _ = growth(memory_over_steps(store))
    return Measurement("growth of memory over 10,000 steps", grown, "MiB", 1.0)
