"""Which tensors show the same memory: views of one parameter, and parameters that are one in all but name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError

T = TypeVar("T")
View = tuple[int, int, tuple[int, ...], tuple[int, ...]]  # memory, offset, shape, strides


def storage_of(tensor: Tensor) -> int:
    """Return a key that tells one piece of memory from another, also on the meta device.

    Raises:
        MappingError: the tensor is seen through a transform of `torch.func`, which hides what memory it shows.
    """
    try:
        return int(tensor.untyped_storage()._cdata)
    except NotImplementedError:
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor) and tensor.is_floating_point():
            raise MappingError(
                "The network computes inside torch.vmap or another transform of torch.func, which hides its weights; "
                "write these products for a whole batch, for example with torch.einsum."
            ) from None
        return -id(tensor)  # sparse, or a mask


def view_of(tensor: Tensor) -> View:
    """Return which values of which memory a tensor shows, in which order."""
    return storage_of(tensor), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among arguments, also those in lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


class Memory(Generic[T]):
    """What is known of tensors, found by a tensor that is one of them or a view of one."""

    def __init__(self) -> None:
        self.parts: dict[int, list[tuple[View, T]]] = {}  # by storage, which several tensors may share

    def add(self, tensor: Tensor, known: T) -> None:
        """Note something of a tensor."""
        self.parts.setdefault(storage_of(tensor), []).append((view_of(tensor), known))

    def of(self, tensor: Tensor) -> T | None:
        """Return the entry of the tensor in whose memory this one begins."""
        parts = self.parts.get(storage_of(tensor))
        if parts is None:
            return None
        offset = int(tensor.storage_offset())
        return next((known for view, known in parts if _shows(view, offset)), None)

    def __contains__(self, tensor: Tensor) -> bool:
        return self.of(tensor) is not None


def same_parameters(model: nn.Module) -> dict[nn.Parameter, nn.Parameter]:
    """Return the parameters that show the very numbers of another one, each with that one: tied by their memory.

    Raises:
        MappingError: two parameters share some numbers in another way.
    """
    known: dict[int, list[tuple[str, nn.Parameter, View]]] = {}
    same: dict[nn.Parameter, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            continue
        view = view_of(parameter)
        beside = known.setdefault(view[0], [])
        twin = next((other for _, other, shown in beside if shown == view), None)
        if twin is not None:
            same[parameter] = twin
            continue
        for other, _, shown in beside:
            if overlapping([shown[1:], view[1:]]):
                raise MappingError(
                    f"Parameters {other} and {name} share numbers in memory, but are not the same; "
                    f"write one as a function of the other in the network's forward."
                )
        beside.append((name, parameter, view))
    return same


def overlapping(parts: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Return whether parts of one memory, each an offset, a shape and strides, show a number more than once."""
    ends = sorted((start, start + _reach(shape, stride)) for start, shape, stride in parts)
    apart = all(one[1] <= other[0] for one, other in pairwise(ends))
    if apart and all(step or n == 1 for _, shape, stride in parts for n, step in zip(shape, stride, strict=True)):
        return False
    places = torch.arange(max(end for _, end in ends))
    shown = torch.cat([places.as_strided(shape, stride, start).flatten() for start, shape, stride in parts])
    return len(shown.unique()) < len(shown)


def _reach(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Return how far behind its offset a view ends."""
    return 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def _shows(view: View, offset: int) -> bool:
    """Return whether a view shows the number at an offset of its memory."""
    _, start, shape, stride = view
    rest = offset - start
    if rest <= 0 or 0 in shape:
        return rest == 0 and 0 not in shape
    for step, size in sorted(zip(stride, shape, strict=True), reverse=True):
        rest -= step * min(rest // step, size - 1) if step else 0
    return rest == 0
