"""The worst case of a placement: quick attacks in a search, the full ensemble in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cimenv.core.config import canonical
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record
from cimenv.crossbar.mapping import map_network
from cimenv.data.splits import Split
from cimenv.evaluation.record import Damage
from cimenv.evaluation.worst_case import AttackTarget, WorstCase, WorstCaseSearch, worst_case
from cimenv.tasks.problem import Problem
from cimenv.tasks.requests import Compute, Request
from cimenv.tasks.stages.identity import arrays_digest
from cimenv.tasks.stages.keys import STAGE_VERSIONS
from cimenv.tasks.task import Task

Source = Literal["reference", "backbone"]


def attack_of(task: Task, split: Split) -> WorstCaseSearch:
    """Return the attacks: quick ones to select on validation, the full ensemble to report on test."""
    return task.worst_case.quick() if split == "val" else task.worst_case


def attacked(
    problem: Problem,
    request: Request,
    attack: WorstCaseSearch,
    compute: Compute = Compute(),
    starts: Sequence[Mapping[str, Tensor]] | None = None,
) -> WorstCase:
    """Search the worst deviation of a placement on the images of a split; the other split is never seen.

    Args:
        problem: backbone, data.
        request: placement, split and fidelity; the worst case has no chips.
        attack: members, bound and budget.
        compute: its threads.
        starts: deviations that the attacks also start from; None: what `transfer` found.
    """
    split, blocks = request.split, problem.blocks(request, compute.progress)
    target = AttackTarget(problem.network, *problem.evaluated(split), blocks, request.placement, compute.workers)
    if starts is None:
        source: Source = "reference" if split == "test" else "backbone"
        starts = [transfer(problem, split, attack, source, compute)]
    draws = torch_generator("worst-case", problem.task.chip_seed, split)
    return worst_case(target, attack, draws, transferred=starts, progress=compute.progress)


def damage(problem: Problem, request: Request, compute: Compute) -> Damage:
    """Return what the task's attacks leave of a placement, and every site's share of the damage."""
    attack = attack_of(problem.task, request.split)
    worst = attacked(problem, request, attack, compute)
    shares = worst.target.site_shares(worst.deviation)
    return Damage(attack.bound, worst.correct, worst.images, worst.member, tuple(shares))


def transfer(
    problem: Problem,
    split: Split,
    attack: WorstCaseSearch,
    source: Source,
    compute: Compute = Compute(),
) -> dict[str, Tensor]:
    """Return the worst deviation that the task's ensemble finds on a network without blocks; kept in the store.

    Reports start from the reference network's: a network that was trained against attacks may hide its own worst from
    gradients, but not another's. Searches start from the backbone's: ten steps from no deviation rank placements
    hardly better than chance, ten from there do.

    Args:
        problem: networks, data.
        split: `val` or `test`.
        attack: its bound and number of images are the ensemble's.
        source: the network without blocks.
        compute: its threads.
    """
    network = problem.network
    if source == "reference":
        network = map_network(problem.reference, problem.task.crossbar, problem.data.image_shape, network.origins)
    ensemble = problem.task.worst_case.model_copy(update={"bound": attack.bound, "images": attack.images})
    key = {
        "stage": "transferred deviation",
        "version": STAGE_VERSIONS["attack"],
        "weights": arrays_digest(problem.identity, network.model.state_dict()),
        "attack": ensemble.model_dump(mode="json"),
        "data": problem.data.digest,
        "split": split,
        "images": problem.images(split),
        "chip_seed": problem.task.chip_seed,
    }

    def searched() -> Record:
        target = AttackTarget(network, *problem.evaluated(split), threads=compute.workers)
        draws = torch_generator("worst-case", problem.task.chip_seed, split)
        worst = worst_case(target, ensemble, draws, progress=compute.progress)
        return Record({"accuracy": worst.accuracy}, {name: d.numpy() for name, d in worst.deviation.items()})

    record = problem.store.once(canonical(key), searched, "the attack on the network without blocks")
    return {name: torch.from_numpy(np.array(value)) for name, value in record.arrays.items()}
