"""Whether the engine's faster path gives what the user's own `model(x)` gives."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.eager import eagerly
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.prepared import copied
from cimenv.crossbar.sites import matrix_of
from cimenv.evaluation.segments import Product, SegmentedNetwork

EQUAL = 1e-5  # of the outputs' norm: two valid orders of single-precision sums differ by up to 7e-7
UNSURE = 1e-3  # up to here double precision decides
EQUAL_DOUBLE = 1e-9
SPREAD = 0.3  # of the mean weight: how far the weights of the chip that is tried lie from the nominal ones

LOG = logging.getLogger("cimenv")


def agrees(network: MappedNetwork, model: nn.Module, images: Tensor) -> bool:
    """Return whether the network in pieces gives the outputs of `model`; else it runs whole, as its author wrote it.

    Args:
        network: the mapped network, with exact weights.
        model: the user's own, on the processor; it is left as it was.
        images: one batch.

    Raises:
        MappingError: `model` gives other outputs in a second call, or the mapped network does whichever way it runs.
    """
    expected = _own(model, images)
    _check_repeatable(model, images, expected)
    fast = SegmentedNetwork(network.model, network.sites, origins=network.origins)
    if not fast.opaque:
        if _agree(fast, network, model, images, expected) and not _wrong_on_chips(fast, network, model, images):
            return True
        LOG.warning(
            "%s gives other outputs cut at its layers than whole, so it is evaluated whole: right, but slower.",
            type(model).__name__,
        )
    whole = SegmentedNetwork(network.model, network.sites, True, network.origins)
    if not _agree(whole, network, model, images, expected):
        layer = _first_difference(model, network.model, images) or network.sites[0].name
        raise MappingError(
            f"{type(model).__name__} gives other outputs when its layer {layer} is mapped; "
            f"keep it digital with crossbar.digital: ['{layer}'], or write its products as plain layers."
        )
    if wrong := _wrong_on_chips(whole, network, model, images):
        raise MappingError(
            f"{type(model).__name__} reads the weight of {wrong} where a chip's cannot take its place; "
            f"keep it digital with crossbar.digital: ['{wrong}'], or multiply by it with functions of torch."
        )
    return fast.opaque


def _wrong_on_chips(segments: SegmentedNetwork, network: MappedNetwork, model: nn.Module, images: Tensor) -> str | None:
    """Return a site that does not compute as the network does that really holds other weights; None: all do."""
    if _right_with(segments, network, model, images, {site.name for site in network.sites}):
        return None
    alone = (site.name for site in network.sites if not _right_with(segments, network, model, images, {site.name}))
    return next(alone, network.sites[0].name)


def _right_with(
    segments: SegmentedNetwork, network: MappedNetwork, model: nn.Module, images: Tensor, names: set[str]
) -> bool:
    """Return whether the outputs with other weights at some sites are those of a network that holds them."""
    draws, chip = torch.Generator().manual_seed(0), {}
    held: dict[str, Tensor] = {}
    parameters = dict(network.model.named_parameters(remove_duplicate=False))
    for site in network.sites:
        own = matrix_of(network.model, site).detach()
        spread = SPREAD * own.abs().mean() if site.name in names else 0.0
        chip[site.name] = own + spread * torch.randn(own.shape, generator=draws)
        values = held.setdefault(site.parameter, parameters[site.parameter].detach().clone())
        site.matrix(values).copy_(chip[site.name])
    outputs = _clean(segments, images.to(memory_format=_layout(network, images)), chip)
    for holder in (network.model, model):  # closures of a copy still hold the original's weights
        own_parameters = dict(holder.named_parameters(remove_duplicate=False))
        if all(name in own_parameters and own_parameters[name].shape == held[name].shape for name in held):
            with _holding({own_parameters[name]: values for name, values in held.items()}):
                expected = _own(holder, images)
            if _distance(outputs, expected) <= UNSURE:
                return True
    return False


@contextmanager
def _holding(values: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """Let parameters hold other values for a while."""
    before = {parameter: parameter.data for parameter in values}
    try:
        for parameter, value in values.items():
            parameter.data = value
        yield
    finally:
        for parameter, value in before.items():
            parameter.data = value


def _agree(
    segments: SegmentedNetwork, network: MappedNetwork, model: nn.Module, images: Tensor, expected: Tensor
) -> bool:
    distance = _distance(_clean(segments, images.to(memory_format=_layout(network, images))), expected)
    if distance <= EQUAL or not distance <= UNSURE:
        return distance <= EQUAL
    try:
        exact = copied(model).double()
        double = SegmentedNetwork(explicit(copied(exact), network.config.digital).eval(), network.sites, segments.plain)
        return _distance(_clean(double, images.double()), _own(exact, images.double())) <= EQUAL_DOUBLE
    except (RuntimeError, TypeError, ValueError):  # a network that computes in single precision alone
        return False


def _layout(network: MappedNetwork, images: Tensor) -> torch.memory_format:
    return network.layout if images.dim() == 4 else torch.contiguous_format


def _own(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(model), eagerly():
        outputs = model(images)
    assert isinstance(outputs, Tensor)
    return outputs


def _clean(segments: SegmentedNetwork, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return the outputs with the sites' own weights, or with others."""
    chip = weights or {site.name: matrix_of(segments.model, site).detach() for site in segments.sites}

    def site(call: int, number: int, x: Tensor, product: Product) -> Tensor:
        del call, x
        return product(chip[segments.sites[number].name], None)

    with torch.no_grad(), evaluating(segments.model):
        return segments.forward(images, site, chip)


def _distance(outputs: Tensor, expected: Tensor) -> float:
    """Return how far outputs lie apart, as a share of their norm; infinite where they cannot be compared."""
    if outputs.shape != expected.shape or not bool(expected.isfinite().all()):
        return float("inf")
    distance = float((outputs - expected).norm())
    return distance / max(float(expected.norm()), 1e-30) if distance else 0.0


def _check_repeatable(model: nn.Module, images: Tensor, expected: Tensor) -> None:
    if not bool(expected.isfinite().all()):
        raise MappingError(f"{type(model).__name__} gives outputs that are NaN or infinite; train it again.")
    if _distance(_own(model, images), expected) > EQUAL:
        layer = _first_difference(model, model, images)
        raise MappingError(
            f"{type(model).__name__} gives other outputs in a second call on the same images"
            f"{f', from its part {layer} on' if layer else ''}; make it repeatable in evaluation."
        )


def _first_difference(one: nn.Module, other: nn.Module, images: Tensor) -> str | None:
    """Return the first part of two networks, in call order, whose outputs differ, or None where none is seen to."""
    first, second = (_outputs_by_part(model, images) for model in (one, other))
    for name, output in first.items():
        if name and name in second and _distance(second[name], output) > EQUAL:
            return name
    return None


def _outputs_by_part(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():

        def record(module: nn.Module, args: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                seen.setdefault(name, output.detach().clone())

        hooks.append(module.register_forward_hook(record))
    try:
        _own(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
