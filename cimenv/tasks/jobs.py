"""run_job: the only thing that evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.config import canonical
from cimenv.evaluation.metrics import Metric, metric_named
from cimenv.evaluation.record import Evaluation, site_errors
from cimenv.evaluation.statistics import statistic_named
from cimenv.tasks.damage import attack_of, damage
from cimenv.tasks.engines import Engines
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute, Request, alike
from cimenv.tasks.stages.keys import STAGE_VERSIONS, physics_of, precision_of, training_environment


def evaluation_key(problem: Problem, request: Request) -> str:
    """Return the text of everything an evaluation depends on."""
    task, physics = problem.task, physics_of(problem.task.crossbar)
    key = {
        "stage": "evaluation",
        "version": STAGE_VERSIONS["evaluation"],
        "weights": problem.weights_digest,
        "device": physics["device"],
        "batch_norm": physics["batch_norm"],
        "batch_norm_images": physics["batch_norm_images"],
        "data": problem.data.digest,
        "split": request.split,
        "images": problem.images(request.split),
        "chip_seed": task.chip_seed,
        "chips": [request.chips.start, request.chips.stop],
        "placement": request.placement,
        "blocks": [option and option.model_dump() for option in problem.options.blocks(request.placement)],
        "fidelity": request.fidelity,
        "metric": {"kind": task.metric, "version": metric_named(task.metric).version},
    }
    key |= precision_of(task.precision)
    if "analog" in physics:
        key["crossbar"] = physics
    if request.times != (0.0,):
        key["times_s"] = list(request.times)
    if not statistic_named(task.statistic).of_chips:
        attack = attack_of(task, request.split).model_dump(mode="json")
        key["worst_case"] = {"version": STAGE_VERSIONS["attack"], **attack}
        if request.split == "val":  # where the attack starts from what the ensemble finds
            key["worst_case"]["start"] = task.worst_case.model_dump(mode="json")
        else:
            key["worst_case"]["start"] = problem.reference_digest
    if request.fidelity == "tuned":
        key["tuned"] = {**task.tuned.model_dump(mode="json"), **precision_of(task.training_precision)}
        key["environment"] = training_environment(task, task.training_threads)  # also where a worker, with one, asks
    return canonical(key)


def run_job(engines: Engines, requests: Sequence[Request], compute: Compute = Compute()) -> list[Evaluation]:
    """Return the evaluations of distinct requests, in their order; a pure function of them and the engines' problem.

    Args:
        engines: of the problem.
        requests: at `bank` fidelity, placements under equal conditions share prefixes depth first.
        compute: where.
    """
    evaluations: dict[Request, Evaluation] = {}
    for group in alike(requests):
        shared = group[0].fidelity == "bank"
        for part in [group] if shared else [[request] for request in group]:
            evaluations.update(zip(part, _evaluated(engines, part, compute), strict=True))
    return [evaluations[request] for request in requests]


def _evaluated(engines: Engines, requests: Sequence[Request], compute: Compute) -> list[Evaluation]:
    """Evaluate requests that share their conditions and their blocks."""
    problem, one = engines.problem, requests[0]
    blocks = problem.blocks(one, compute.progress)
    engine, placements = engines.of(one.split, compute, blocks), [request.placement for request in requests]
    tallies = [engine.run(placements, one.chips, t_s=t_s, progress=compute.progress) for t_s in one.times]
    worst, metric = not statistic_named(problem.task.statistic).of_chips, metric_named(problem.task.metric)
    return [
        Evaluation(
            key=evaluation_key(problem, request),
            placement=request.placement,
            split=request.split,
            fidelity=request.fidelity,
            **_per_chip(metric, np.stack([tally.sums[p] for tally in tallies]), engine.images),
            site_errors=np.mean([site_errors(tally, p) for tally in tallies], axis=0),
            over_times=problem.task.over_times,
            first_chip=request.chips.start,
            damage=damage(problem, request, compute) if worst else None,
            cost=problem.space.shares(request.placement),
        )
        for p, request in enumerate(requests)
    ]


def _per_chip(metric: Metric, sums: npt.NDArray[np.int64 | np.float64], images: int) -> dict[str, Any]:
    """Return what every chip is worth, `[times, chips]`, and the counts where that is a share of the images."""
    return {"values": metric.compute(sums, images), "images": images, "correct": sums if metric.share else None}
