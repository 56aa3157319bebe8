"""run_job: the only thing that evaluates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.core.config import canonical, checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.core.progress import Progress, silent
from cimenv.data.splits import Split, checked_split
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.record import Evaluation, site_errors
from cimenv.tasks.damage import attack_of, damage
from cimenv.tasks.problem import Problem
from cimenv.tasks.stages.keys import STAGE_VERSIONS, physics_of, precision_of, training_environment
from cimenv.tasks.task import MOST_CHIPS, Task

Fidelity = str  # "bank" or "tuned"


def chip_numbers(task: Task, split: Split, fidelity: Fidelity, chips: int | range | None = None) -> range:
    """Return the numbers of the chips of an evaluation; by default `chips` of the task on val, `report_chips` on test.

    Raises:
        ConfigError: unknown split or fidelity, or fewer than one chip.
    """
    checked_split(split)
    if fidelity not in ("bank", "tuned"):
        raise ConfigError(f"fidelity: got {brief(fidelity)}; use 'bank' or 'tuned'.")
    if isinstance(chips, range):
        if not chips or chips.step != 1 or chips.start < 0:
            raise ConfigError(f"chips: got {chips}; give a range of at least one chip, in steps of 1.")
        checked_int("chips", chips.stop - chips.start, 1, MOST_CHIPS)
        checked_int("chips", chips.stop, 1)
        return chips
    count = chips if chips is not None else task.chips if split == "val" else task.report_chips
    return range(checked_int("chips", count, 1, MOST_CHIPS))


def evaluation_key(problem: Problem, placement: Placement, split: Split, fidelity: Fidelity, chips: range) -> str:
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
        "split": split,
        "images": problem.images(split),
        "chip_seed": task.chip_seed,
        "chips": [chips.start, chips.stop],
        "placement": placement,
        "blocks": [option and option.model_dump() for option in problem.options.blocks(placement)],
        "fidelity": fidelity,
    }
    key |= precision_of(task.precision)
    if "analog" in physics:
        key["crossbar"] = physics
    if task.times_s != (0.0,):
        key["times_s"] = list(task.times_s)
    if task.metric == "worst_case":
        attack = attack_of(task, split).model_dump(mode="json")
        key["worst_case"] = {"version": STAGE_VERSIONS["attack"], **attack}
        if split == "val":  # where the attack starts from what the ensemble finds
            key["worst_case"]["start"] = task.worst_case.model_dump(mode="json")
        else:
            key["worst_case"]["start"] = problem.reference_digest
    if fidelity == "tuned":
        key["tuned"] = {**task.tuned.model_dump(mode="json"), **precision_of(task.training_precision)}
        key["environment"] = training_environment(task, task.training_threads)  # also where a worker, with one, asks
    return canonical(key)


def run_job(
    problem: Problem,
    placements: Sequence[Placement],
    split: Split,
    fidelity: Fidelity,
    chips: range,
    *,
    engine: Engine | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: Progress = silent,
) -> list[Evaluation]:
    """Evaluate placements; a pure function of the problem and the arguments.

    Args:
        problem: what to evaluate.
        placements: distinct placements; at `bank` fidelity they share prefixes depth first.
        split: `val` or `test`.
        fidelity: `bank` or `tuned`.
        chips: numbers of the chips.
        engine: one made earlier for this split at `bank` fidelity, with activations it has kept.
        threads: worker threads.
        device: where to compute.
        progress: opens a bar.
    """
    worst, times = problem.task.metric == "worst_case", problem.task.times_s
    if fidelity == "bank":
        engine = engine or problem.engine(split, threads=threads, device=device)
        tallies = [engine.run(placements, chips, t_s=t_s, progress=progress) for t_s in times]
        found = [(tallies, p, problem.bank) for p in range(len(placements))]
    else:
        found = []
        for placement in placements:
            bank = problem.tuned_bank(placement, progress)
            tuned = problem.engine(split, bank, threads, device)
            found.append(([tuned.run([placement], chips, t_s=t_s, progress=progress) for t_s in times], 0, bank))
    return [
        Evaluation(
            key=evaluation_key(problem, placement, split, fidelity, chips),
            placement=placement,
            split=split,
            fidelity=fidelity,
            correct=np.stack([tally.correct[p] for tally in tallies]),
            images=tallies[0].images,
            site_errors=np.mean([site_errors(tally, p) for tally in tallies], axis=0),
            over_times=problem.task.over_times,
            first_chip=chips.start,
            damage=damage(problem, placement, bank, split, threads, progress) if worst else None,
        )
        for placement, (tallies, p, bank) in zip(placements, found, strict=True)
    ]
