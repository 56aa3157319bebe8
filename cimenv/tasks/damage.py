"""The worst case of a placement: quick attacks in a search, the full ensemble in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import Placement
from cimenv.core.config import canonical
from cimenv.core.progress import Progress, silent
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record
from cimenv.crossbar.mapping import map_network
from cimenv.data.splits import Split
from cimenv.evaluation.record import Damage
from cimenv.evaluation.worst_case import AttackTarget, WorstCase, WorstCaseSearch, worst_case
from cimenv.tasks.problem import Problem
from cimenv.tasks.stages.identity import arrays_digest
from cimenv.tasks.stages.keys import STAGE_VERSIONS
from cimenv.tasks.task import Task

Source = Literal["reference", "backbone"]


def attack_of(task: Task, split: Split) -> WorstCaseSearch:
    """Return the attacks: quick ones to select on validation, the full ensemble to report on test."""
    return task.worst_case.quick() if split == "val" else task.worst_case


def attacked(
    problem: Problem,
    placement: Placement,
    bank: CompensationBank,
    split: Split,
    attack: WorstCaseSearch,
    threads: int = 1,
    progress: Progress = silent,
    *,
    starts: Sequence[Mapping[str, Tensor]] | None = None,
) -> WorstCase:
    """Search the worst deviation of a placement on the images of a split; the other split is never seen.

    Args:
        problem: backbone, data.
        placement: one option per site.
        bank: its blocks, shared or fitted.
        split: `val` or `test`.
        attack: members, bound and budget.
        threads: worker threads.
        progress: opens a bar.
        starts: deviations that the attacks also start from; None: what `transfer` found.
    """
    target = AttackTarget(problem.network, *problem.evaluated(split), bank, placement, threads)
    if starts is None:
        source: Source = "reference" if split == "test" else "backbone"
        starts = [transfer(problem, split, attack, source, threads, progress)]
    draws = torch_generator("worst-case", problem.task.chip_seed, split)
    return worst_case(target, attack, draws, transferred=starts, progress=progress)


def damage(
    problem: Problem,
    placement: Placement,
    bank: CompensationBank,
    split: Split,
    threads: int = 1,
    progress: Progress = silent,
) -> Damage:
    """Return what the task's attacks leave of a placement, and every site's share of the damage."""
    attack = attack_of(problem.task, split)
    found = attacked(problem, placement, bank, split, attack, threads, progress)
    shares = found.target.site_shares(found.deviation)
    return Damage(attack.bound, found.correct, found.images, found.member, tuple(shares))


def transfer(
    problem: Problem,
    split: Split,
    attack: WorstCaseSearch,
    source: Source,
    threads: int = 1,
    progress: Progress = silent,
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
        threads: worker threads.
        progress: opens a bar.
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

    def compute() -> Record:
        target = AttackTarget(network, *problem.evaluated(split), threads=threads)
        draws = torch_generator("worst-case", problem.task.chip_seed, split)
        found = worst_case(target, ensemble, draws, progress=progress)
        return Record({"accuracy": found.accuracy}, {name: d.numpy() for name, d in found.deviation.items()})

    record = problem.store.once(canonical(key), compute, "the attack on the network without blocks")
    return {name: torch.from_numpy(np.array(value)) for name, value in record.arrays.items()}
