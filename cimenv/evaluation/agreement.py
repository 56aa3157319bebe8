"""Whether the engine's faster path gives what the user's own `model(x)` gives."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.prepared import copied
from cimenv.crossbar.sites import matrix_of
from cimenv.evaluation.segments import Product, SegmentedNetwork

EQUAL = 1e-5  # of the outputs' norm: two valid orders of single-precision sums differ by up to 7e-7
UNSURE = 1e-3  # up to here double precision decides
EQUAL_DOUBLE = 1e-9

LOG = logging.getLogger("cimenv")
Forward = Callable[[Tensor], Tensor]


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
        if _agree(fast, network, model, images, expected):
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
    return fast.opaque


def _agree(
    segments: SegmentedNetwork, network: MappedNetwork, model: nn.Module, images: Tensor, expected: Tensor
) -> bool:
    distance = _distance(_clean(segments, images.to(memory_format=_layout(network, images))), expected)
    if distance <= EQUAL or not distance <= UNSURE:
        return distance <= EQUAL
    try:
        exact = copied(model).double()
        double = SegmentedNetwork(explicit(copied(exact)).eval(), network.sites, segments.plain)
        return _distance(_clean(double, images.double()), _own(exact, images.double())) <= EQUAL_DOUBLE
    except (RuntimeError, TypeError, ValueError):  # a network that computes in single precision alone
        return False


def _layout(network: MappedNetwork, images: Tensor) -> torch.memory_format:
    return network.layout if images.dim() == 4 else torch.contiguous_format


def _own(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(model):
        found = model(images)
    assert isinstance(found, Tensor)
    return found


def _clean(segments: SegmentedNetwork, images: Tensor) -> Tensor:
    nominal = {site.name: matrix_of(segments.model, site).detach() for site in segments.sites}

    def site(call: int, number: int, x: Tensor, product: Product) -> Tensor:
        del call, x
        return product(nominal[segments.sites[number].name], None)

    with torch.no_grad():
        return segments.forward(images, site, nominal)


def _distance(found: Tensor, expected: Tensor) -> float:
    """Return how far outputs lie apart, as a share of their norm; infinite where they cannot be compared."""
    if found.shape != expected.shape or not bool(expected.isfinite().all()):
        return float("inf")
    distance = float((found - expected).norm())
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
    """Return the first part of two networks, in call order, whose outputs differ; None where none is seen to."""
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
