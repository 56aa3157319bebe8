"""Measure every promised speed: `python -m experiments.bench` (make bench).

Ratios are taken in one run, medians of several. Leaves results/bench/bench.json, table.md and targets.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cimenv.analysis.enumeration import enumerate_placements
from cimenv.core.progress import bar
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Store
from cimenv.core.threads import torch_threads
from cimenv.crossbar import map_network, preset, programmed
from cimenv.envs import CompensationEnv, TabularVectorEnv
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.prefix import PrefixCache
from cimenv.evaluation.workers import IMAGE_BLOCK
from cimenv.evaluation.worst_case import AttackTarget, WorstCaseSearch, worst_case
from cimenv.tasks import MonteCarloEvaluator, Problem, load_task
from cimenv.tasks.evaluators.cluster import Cluster
from cimenv.tasks.problem import SHIPPED
from cimenv.training import recipe_named
from experiments.bench.deep import deep_figures
from experiments.bench.memory import growth, memory_over_steps
from experiments.lab.targets import target, write_targets
from experiments.lab.timing import Figure, epoch_of, median_ratio, seconds, write_figures

OUT = Path(__file__).parents[2] / "results/bench"
CHIPS, IMAGES, RUNS = 25, 2_000, 7
BATCHES = (50, 100, 125, 200, 250, 500, 1000, 2000)


def engine_figures(problem: Problem) -> list[Figure]:
    """Compare the engine with plain forward passes, on one thread."""
    part = problem.data["val"]
    images, labels = part.inputs(slice(IMAGES)), part.labels[:IMAGES]
    engine = Engine(problem.segments, problem.chips("val"), problem.bank, images, labels)
    network, none = problem.network.model, (0,) * 5
    largest = MonteCarloEvaluator(problem.task, problem.store).space.largest()
    share = MonteCarloEvaluator(problem.task, problem.store).space.shares(largest)["macs"]

    def plain(batch: int) -> None:
        with torch.inference_mode():
            for _ in range(CHIPS):
                for block in images.split(batch):
                    network(block)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = min(BATCHES, key=lambda batch: statistics.median(seconds(lambda: plain(batch)) for _ in range(3)))
    bare, ours, theirs = median_ratio(lambda: engine.run([none], range(CHIPS)), lambda: plain(best))
    full, _, _ = median_ratio(lambda: engine.run([largest], range(CHIPS)), lambda: plain(best))
    torch.set_num_threads(threads)
    return [
        Figure(f"plain forwards, {CHIPS} x {IMAGES} images, best batch ({best})", theirs, "s"),
        Figure(f"Monte-Carlo evaluation, {CHIPS} chips x {IMAGES} images, no blocks", ours, "s"),
        Figure("evaluation / plain forwards, no blocks", bare, "x", 1.15),
        Figure("evaluation / plain forwards, all-largest blocks", full, "x", 1.15 * (1 + share)),
    ]


def prefix_figures(problem: Problem) -> list[Figure]:
    """Compare a step at the last site with a full evaluation, on one thread."""
    part = problem.data["val"]
    images, labels = part.inputs(slice(IMAGES)), part.labels[:IMAGES]
    keeping, fresh = (
        Engine(problem.segments, problem.chips("val"), problem.bank, images, labels, cache=cache)
        for cache in (PrefixCache(), None)
    )
    first, last = (2, 2, 2, 0, 0), (2, 2, 2, 0, 1)
    keeping.run([first], range(CHIPS))
    steps = cycle([last, (2, 2, 2, 0, 2)])  # the same placement twice would be known
    ratio, _, _ = median_ratio(
        lambda: keeping.run([next(steps)], range(CHIPS)), lambda: fresh.run([last], range(CHIPS))
    )
    a, b = keeping.run([last], range(CHIPS)), fresh.run([last], range(CHIPS))
    difference = float(abs(a.squares - b.squares).max() + abs(a.correct - b.correct).max())
    return [
        Figure("step at the last site / full evaluation", ratio, "x", 0.40),
        Figure("largest difference of the two results", difference, "", 1e-6),
    ]


def analog_figure(problem: Problem) -> Figure:
    """Time the whole chain of Rasch et al. (2023) on one thread; the kit took 1.84 s on two such cores' one thread."""
    images = problem.data["val"].inputs(slice(1_000))
    network = map_network(problem.network.model, preset("rasch2023"), problem.data.image_shape).calibrated(images)
    chip = network.program(torch_generator("bench"))

    def run() -> None:
        with torch.inference_mode(), programmed(network.model, chip):
            for block in images.split(IMAGE_BLOCK):
                network.model(block)

    with torch_threads(1):
        took = statistics.median(seconds(run) for _ in range(RUNS))
    return Figure("analog chain of rasch2023, LeNet-5, 1,000 images, one thread", took, "s", 1.84)


def enumeration_figure(problem: Problem) -> Figure:
    """Time the depth-first walk over all placements: 25 chips x 1,000 images, one thread."""
    evaluator = MonteCarloEvaluator(problem.task, problem.store)
    part = problem.data["val"]
    engine = Engine(problem.segments, problem.chips("val"), problem.bank, part.inputs(slice(1000)), part.labels[:1000])
    placements = list(evaluator.space.all_placements())
    took = seconds(lambda: engine.run(placements, range(25), progress=bar))
    return Figure("all 1,024 placements, 25 chips x 1,000 images, one thread", took, "s")


def cluster_figure(problem: Problem) -> Figure:
    """Compare enumerations by one and by two worker processes of one thread each: medians of three, after a first."""
    from distributed import LocalCluster

    took: list[float] = []
    for workers in (1, 2):
        local: Any = LocalCluster  # which has no types
        with (
            local(n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as scheduler,
            Cluster(scheduler.scheduler_address) as cluster,
            tempfile.TemporaryDirectory() as folder,
        ):
            paths = iter(Path(folder, f"{k}.csv") for k in range(4))
            enumerate_next = partial(enumerate_on, cluster, problem, paths)
            took.append(statistics.median([seconds(enumerate_next) for _ in range(4)][1:]))
    return Figure("time of two cluster workers / one, all 1,024 placements", took[1] / took[0], "x", 1 / 1.8)


def enumerate_on(cluster: Cluster, problem: Problem, paths: Iterator[Path]) -> None:
    """Enumerate a problem into the next file."""
    enumerate_placements(problem.task, next(paths), store=problem.store, cluster=cluster)


def environment_figures(store: Store) -> list[Figure]:
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
        Figure("environment overhead on a miss", statistics.median(own / total for own, total in misses), "", 0.02),
        Figure("step on a hit", statistics.median(total for _, total in hits) * 1e3, "ms", 1.0),
        Figure("second reset", statistics.median(seconds(lambda: env.reset()) for _ in range(RUNS)), "s", 0.5),
    ]


def tabular_figures() -> list[Figure]:
    """Time steps of the tabular environments as arrays, on one core: with all infos, and with masks alone."""
    found = []
    for what, count, infos, steps, bound_us in (
        ("4,096 environments, all infos", 4_096, "all", 200, 0.2),
        ("one environment, masks", 1, "mask", 10_000, 10.0),
    ):
        envs = TabularVectorEnv(count, infos=infos)
        envs.reset(seed=0)
        draws = np.random.default_rng(0)
        actions = [draws.integers(1, envs.pages.actions, size=count) for _ in range(50)]

        def run(envs: TabularVectorEnv = envs, actions: list[Any] = actions, steps: int = steps) -> None:
            for step in range(steps):
                envs.step(actions[step % len(actions)])

        with torch_threads(1):
            took = statistics.median(seconds(run) for _ in range(RUNS)) / (steps * count)
        found.append(Figure(f"tabular step, {what}", took * 1e6, "us", bound_us))
    return found


def memory_figure(store: Store) -> Figure:
    """Measure what the process holds more after 10,000 steps of the environment."""
    grown, _ = growth(memory_over_steps(store))
    return Figure("growth of memory over 10,000 steps", grown, "MiB", 1.0)


def worst_case_figures(problem: Problem) -> list[Figure]:
    """Time attacks, a percentile over many chips, and the training against the worst case."""
    part, threads, empty = problem.data["test"], torch.get_num_threads(), (0,) * 5
    target = AttackTarget(problem.network, part.inputs(slice(IMAGES)), part.labels[:IMAGES], threads=threads)
    search = WorstCaseSearch(bound=0.03)
    draws = torch_generator("bench")
    full = seconds(lambda: worst_case(target, search, draws, progress=bar))
    start = [target.zero()]  # a search starts from what the ensemble found without blocks
    quick = statistics.median(
        seconds(lambda: worst_case(target, search.quick(), draws, transferred=start)) for _ in range(3)
    )
    images, labels = part.inputs(slice(1000)), part.labels[:1000]
    engine = Engine(problem.segments, problem.chips("test"), problem.bank, images, labels, threads=threads)
    tail = seconds(lambda: engine.run([empty], range(1000), progress=bar))
    ratio, _, _ = median_ratio(
        epoch_of(problem, recipe_named("a_trice")), epoch_of(problem, recipe_named("noise")), runs=3
    )
    return [
        Figure(f"worst-case ensemble, {IMAGES} images", full, "s", 60.0),
        Figure("worst case of a search, 500 images", quick, "s", 3.0),
        Figure("percentile, 1000 chips x 1000 images", tail, "s", 60.0),
        Figure("epoch of a_trice / epoch of noise", ratio, "x", 3.5),
    ]


def start_figures() -> list[Figure]:
    """Measure import and first reset in fresh processes, the reset from what ships with the package."""
    light = "import torch, gymnasium, time; t = time.perf_counter(); import cimenv; print(time.perf_counter() - t)"
    reset = (
        "import time, gymnasium, cimenv; e = gymnasium.make('CiMCompensation-v0'); "
        "t = time.perf_counter(); e.reset(seed=0); print(time.perf_counter() - t)"
    )

    def fresh(script: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            found = subprocess.check_output([sys.executable, "-c", script], env={**os.environ, "CIMENV_CACHE": folder})
        return float(found)

    return [
        Figure("import cimenv beyond torch and gymnasium", statistics.median(fresh(light) for _ in range(5)), "s", 0.3),
        Figure(
            "first reset of the default task, shipped layer",
            statistics.median(fresh(reset) for _ in range(5)),
            "s",
            2.0,
        ),
    ]


def demo_figures() -> list[Figure]:
    """Read what the last `make demo` took."""
    path = Path(__file__).parents[2] / "results/demo/summary.json"
    if not path.exists():
        return []
    summary = json.loads(path.read_text())
    return [
        Figure("make demo after installation", summary["seconds"], "s", 300.0),
        Figure("make demo, peak memory", summary["peak_memory_gb"], "GB", 2.0),
    ]


def main() -> None:
    """Measure everything; what a user waits for first, before the machine is hot and its memory full."""
    starts = start_figures()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, layers=(SHIPPED,))
        problem = Problem.build(load_task("lenet5-fashion-mini"), store, bar)
        figures = engine_figures(problem) + prefix_figures(problem) + environment_figures(store)
        figures += [
            enumeration_figure(problem),
            cluster_figure(problem),
            analog_figure(problem),
            memory_figure(store),
            *deep_figures(),
            *tabular_figures(),
            *worst_case_figures(problem),
        ]
    figures += starts + demo_figures()
    machine = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    write_figures(figures, OUT, machine)
    promised = [f for f in figures if f.bound is not None]
    write_targets(OUT, [target(f.what, f"<= {f.bound}", f.value, bool(f.met), "make bench") for f in promised])


if __name__ == "__main__":
    main()
