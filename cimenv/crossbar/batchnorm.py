"""Batch-norm statistics under variation: two different things, kept apart.

`recalibrate_shared` is statistical: one set of statistics, averaged over many chips, no data from the chip in use.
`calibrated_for_chip` is a calibration: every chip gets statistics of its own from images shown to that chip.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cimenv.core.errors import DataError
from cimenv.crossbar.interception import programmed
from cimenv.crossbar.layers import ProgrammedWeight
from cimenv.crossbar.modes import evaluating, restore
from cimenv.crossbar.sites import Site


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch-norm layers with running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def recalibrate_shared(
    model: nn.Module,
    chips: Iterable[Mapping[str, ProgrammedWeight]],
    images: Tensor,
    block: int = 250,
    sites: Sequence[Site] | None = None,
) -> None:
    """Replace the running statistics by their average over `chips`, in place.

    Args:
        model: the backbone, changed in place.
        chips: noisy weights by site name, one mapping a chip.
        images: training images `[n, c, h, w]`, split over the chips in turn.
        block: images per forward pass.
        sites: see `programmed`.

    Raises:
        DataError: there is one image, which has no spread.
    """
    norms = batch_norms(model)
    if not norms:
        return
    blocks = _blocks(images, block)
    before = [copy.deepcopy(norm.state_dict()) for norm in norms.values()]
    try:
        with torch.no_grad(), evaluating(model):
            for k, weights in enumerate(chips):
                if k == 0:
                    _reset(norms.values())
                with programmed(model, weights, sites), _collecting(norms.values()):
                    model(blocks[k % len(blocks)])
    except BaseException:  # an interrupted estimate is none
        for norm, state in zip(norms.values(), before, strict=True):
            norm.load_state_dict(state)
        raise


def calibrated_for_chip(
    model: nn.Module,
    weights: Mapping[str, ProgrammedWeight],
    images: Tensor,
    block: int = 250,
    inserted: Callable[[nn.Module], AbstractContextManager[object]] = nullcontext,
    sites: Sequence[Site] | None = None,
) -> dict[str, _BatchNorm]:
    """Return copies of the batch-norm layers with statistics of ONE chip; the model is left as it was.

    Args:
        model: the backbone.
        weights: the chip's weights by site name.
        images: training images shown to the chip, `[n, c, h, w]`.
        block: images per forward pass.
        inserted: puts the compensation blocks behind the sites of the copy that runs.
        sites: see `programmed`.

    Raises:
        DataError: there is one image, which has no spread.
    """
    if not batch_norms(model):
        return {}
    origins = dict(model.named_parameters())
    model = copy.deepcopy(model).eval()
    norms = batch_norms(model)
    _reset(norms.values())
    with torch.no_grad(), programmed(model, weights, sites, origins), inserted(model), _collecting(norms.values()):
        for part in _blocks(images, block):
            model(part)
    return norms


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the batch's own statistics and keep the running ones unchanged.

    While blocks are fitted this stands for `per_chip` calibration, since every batch sees a chip of its own.
    """
    norms = list(batch_norms(model).values())
    kept, trained = [copy.deepcopy(norm.state_dict()) for norm in norms], {norm: norm.training for norm in norms}
    try:
        for norm in norms:
            norm.train()
        yield
    finally:
        for norm, state in zip(norms, kept, strict=True):
            norm.load_state_dict(state)
        restore(trained)


@contextmanager
def shared_statistics(model: nn.Module, momentum: float = 0.01) -> Iterator[None]:
    """Normalise by the running statistics while training, as every chip must, and let them follow the batches slowly.

    Training with a batch's own statistics is training with a calibration of every chip, which no chip in use has.

    Args:
        model: in training mode.
        momentum: of the statistics; they are means over about `1 / momentum` batches, and so over as many chips.
    """
    norms = list(batch_norms(model).values())

    def follow(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().float()
        variance, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1])
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean = norm.running_mean.lerp(mean, momentum)  # not in place: backward needs what it used
            norm.running_var = norm.running_var.lerp(variance, momentum)

    trained, hooks = {norm: norm.training for norm in norms}, []
    try:
        for norm in norms:
            hooks.append(norm.eval().register_forward_pre_hook(follow))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        restore(trained)


def _blocks(images: Tensor, block: int) -> list[Tensor]:
    """Return blocks of images; a last one of a single image is left out, since it has no spread."""
    blocks = [part for part in images.split(block) if len(part) > 1]
    if not blocks:
        raise DataError(f"images: got {len(images)}; give at least 2, so that batch norms have a spread to estimate.")
    return blocks


def _reset(norms: Iterable[_BatchNorm]) -> None:
    for norm in norms:
        norm.reset_running_stats()


@contextmanager
def _collecting(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Train mode with momentum None: running statistics become the plain average over batches."""
    layers = list(norms)
    momenta, trained = [norm.momentum for norm in layers], {norm: norm.training for norm in layers}
    try:
        for norm in layers:
            norm.momentum = None
            norm.train()
        yield
    finally:
        for norm, momentum in zip(layers, momenta, strict=True):
            norm.momentum = momentum
        restore(trained)
