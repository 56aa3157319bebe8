"""The compensation blocks: the bank that all placements share, and those fitted for one placement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from cimenv.compensation.bank import CompensationBank, bank_arrays, bank_from
from cimenv.compensation.fit_log import FitLog
from cimenv.compensation.options import Options, Placement
from cimenv.core.precision import arithmetic
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Record
from cimenv.core.threads import torch_threads
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.prepared import copied
from cimenv.evaluation.protection import Protection, channel_scores
from cimenv.tasks.stages.keys import STAGE_VERSIONS, conditions_of
from cimenv.tasks.stages.weights import record_of, tensors_of, under_way
from cimenv.tasks.stages.workspace import Workspace
from cimenv.tasks.task import Task
from cimenv.training import fit_bank, fit_placement
from cimenv.training.resuming import Kept


def fitted_bank(
    work: Workspace, network: MappedNetwork, options: Options, backbone_key: dict[str, Any]
) -> tuple[CompensationBank, FitLog | None]:
    """Return the fitted bank of a mapped backbone, and the log of its fit, or None where nothing was fitted."""
    protection = _protection(work.task, options)
    if not _to_fit(options) and protection == "weight_norm":
        return CompensationBank(options).eval(), None
    key = bank_key(work.task, options, backbone_key)
    kept = under_way(work.store, work.task, key)
    arrays = tensors_of(work.trained(key, lambda: _fitted_bank(work, network, options, key, kept), "the bank"))
    kept.done()
    log = FitLog.taken_from(arrays)
    return bank_from(options, arrays), log


def bank_key(task: Task, options: Options, backbone_key: dict[str, Any]) -> dict[str, Any]:
    """Return the key of the bank's weights."""
    key = {
        "stage": "bank",
        "version": STAGE_VERSIONS["bank"],
        "backbone": backbone_key,
        **conditions_of(task),
        "options": [[o.model_dump() for o in here] for here in options.per_site],
        "recipe": task.bank.model_dump(mode="json"),
        "seed": task.training_seed,
    }
    if (protection := _protection(task, options)) != "weight_norm":
        key["protection"] = protection
    if versions := {o.kind: o.block.version for here in options.per_site for o in here if o.block.version != 1}:
        key["block_versions"] = versions
    return key


def _fitted_bank(work: Workspace, network: MappedNetwork, options: Options, key: dict[str, Any], kept: Kept) -> Record:
    task, train = work.task, work.data.train
    with work.seeded(key) as generator:
        bank, log = CompensationBank(options), dict[str, Tensor]()
        if (protection := _protection(task, options)) != "weight_norm":
            bank.protect(channel_scores(network, train, protection, task.times_s[-1]))
        if _to_fit(options):
            placed, bank = _placed_for_training(network, task), bank.to(task.training_device)
            train = train.to(task.training_device)
            with arithmetic(task.training_precision, task.training_device):
                how = (generator, work.progress, task.times_s, kept)
                log = fit_bank(placed, bank, train, task.bank, *how).arrays()
    return record_of({**bank_arrays(bank), **log})


def _to_fit(options: Options) -> bool:
    return any(not option.block.on_weights for here in options.per_site for option in here)


def _protection(task: Task, options: Options) -> Protection:
    """Return how channels that stay digital are chosen; by weight norm where no option keeps a part of a layer."""
    partial = any(option.block.on_weights and option.size < 1 for here in options.per_site for option in here)
    return task.protection if partial else "weight_norm"


def tuned_blocks(
    work: Workspace, network: MappedNetwork, bank: CompensationBank, weights_digest: str, placement: Placement
) -> CompensationBank:
    """Return blocks fitted for one placement, starting from the bank's.

    Args:
        work: the task, its data, the store.
        network: the mapped backbone.
        bank: the shared blocks.
        weights_digest: of backbone and bank.
        placement: one option index per site.
    """
    task, key = work.task, tuned_key(work, bank.options, weights_digest, placement)
    kept = under_way(work.store, task, key)

    def compute() -> Record:
        blocks = bank_from(bank.options, {n: v.clone() for n, v in bank_arrays(bank).items()})
        placed = _placed_for_training(network, task)  # other threads may be fitting other placements
        train, generator = work.data.train.to(task.training_device), torch_generator(key)
        with torch_threads(task.training_threads), arithmetic(task.training_precision, task.training_device):
            blocks, how = blocks.to(task.training_device), (generator, work.progress, task.times_s, kept)
            fit_placement(placed, blocks, placement, train, task.tuned, *how)
        return record_of(bank_arrays(blocks))

    record = work.trained(key, compute, "the blocks of a placement")
    kept.done()
    return bank_from(bank.options, tensors_of(record))


def tuned_key(work: Workspace, options: Options, weights_digest: str, placement: Placement) -> dict[str, Any]:
    """Return the key of the weights of a placement's blocks."""
    return {
        "stage": "tuned",
        "version": STAGE_VERSIONS["tuned"],
        "weights": weights_digest,
        **conditions_of(work.task),
        "recipe": work.task.tuned.model_dump(mode="json"),
        "data": work.data.digest,
        "blocks": [option and option.model_dump() for option in options.blocks(placement)],
        "seed": work.task.training_seed,
    }


def _placed_for_training(network: MappedNetwork, task: Task) -> MappedNetwork:
    """Return a copy of the network where the task trains."""
    ranges = {name: value.to(task.training_device) for name, value in network.input_ranges.items()}
    return replace(network, model=copied(network.model).to(task.training_device), input_ranges=ranges)
