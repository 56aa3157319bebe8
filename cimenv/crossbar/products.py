"""The products of a forward pass, read from the calls of torch's functions: which operand is a weight, and how.

A weight may lie on either side of a product, transposed or not; a `Product` shows it in the form of a dense layer or a
convolution, so that a crossbar can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.operations import Convolution, Dense, Operation


def _as_it_is(y: Tensor) -> Tensor:
    return y


@dataclass(frozen=True)
class Product:
    """One operand of a product, seen as the weight.

    Attributes:
        operation: how inputs meet it.
        x: the inputs, `[..., in]` or `[n, in, *size]`.
        weight: the operand, `[out, in]` or `[out, in/groups, *kernel]`: a view of what was given.
        bias: what is added, as a dense layer or a convolution would; None for none.
        exact: from a weight in this form, what the function called gives.
        to_outputs: from what the function gives, outputs `[..., out]` or `[n, out, *size]`.
        from_outputs: the way back.
    """

    operation: Operation
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    exact: Callable[[Tensor], Tensor]
    to_outputs: Callable[[Tensor], Tensor] = _as_it_is
    from_outputs: Callable[[Tensor], Tensor] = _as_it_is

    def outputs(self, weight: ProgrammedWeight, generator: torch.Generator | None = None) -> Tensor:
        """Return the outputs with another weight.

        Args:
            weight: of one chip.
            generator: draws read and output noise of an analog weight.
        """
        if isinstance(weight, AnalogWeight):
            return weight.product(self.operation, self.x, self.bias, generator)
        return self.to_outputs(self.exact(weight))


Reader = Callable[..., Iterator[Product]]


def products(function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Iterator[Product]:
    """Yield what each operand of a product would be as its weight; nothing where the function is no product."""
    reader = READERS.get(function)
    if reader is None:
        return iter(())
    try:
        return reader(function, *args, **named)
    except TypeError:  # an unusual form, or a call that torch itself refuses
        return iter(())


def _linear(
    function: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Iterator[Product]:
    if weight.dim() == 2:
        yield Product(Dense(), input, weight, bias, lambda w: function(input, w, bias))


def _convolution(
    function: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Iterator[Product]:
    dimensions = 2 if function is torch.conv2d else 1
    if weight.dim() != dimensions + 2:
        return

    def each(value: Any) -> Any:
        if isinstance(value, str):
            return value
        return tuple(value) * (dimensions // len(value)) if isinstance(value, tuple | list) else (value,) * dimensions

    def exact(w: Tensor) -> Tensor:
        return function(input, w, bias, stride, padding, dilation, groups)

    operation = Convolution(each(stride), each(padding), each(dilation), groups)
    if input.dim() == dimensions + 1:  # one image without a batch
        yield Product(
            operation, input.unsqueeze(0), weight, bias, exact, lambda y: y.unsqueeze(0), lambda y: y.squeeze(0)
        )
    else:
        yield Product(operation, input, weight, bias, exact)


def _matmul(function: Callable[..., Tensor], left: Any, right: Any) -> Iterator[Product]:
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)):
        return
    if right.dim() == 2:
        yield Product(Dense(), left, right.mT, None, lambda w: function(left, w.mT))
    if left.dim() == 2 and right.dim() == 1:
        yield Product(Dense(), right, left, None, lambda w: function(w, right))
    elif left.dim() == 2:
        yield Product(Dense(), right.mT, left, None, lambda w: function(w, right), lambda y: y.mT, lambda y: y.mT)


def _reversed_matmul(function: Callable[..., Tensor], right: Tensor, left: Tensor) -> Iterator[Product]:
    del function
    yield from _matmul(torch.matmul, left, right)


def _addmm(
    function: Callable[..., Tensor], input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Iterator[Product]:
    if alpha != 1:
        return
    bias = input if beta == 1 else beta * input
    yield Product(Dense(), mat1, mat2.mT, bias, lambda w: function(input, mat1, w.mT, beta=beta))
    turned = bias.mT if bias.dim() == 2 else bias[:, None]  # added to every row of what is turned
    if bias.dim() == 2:
        yield Product(
            Dense(), mat2.mT, mat1, turned, lambda w: function(input, w, mat2, beta=beta),
            lambda y: y.mT, lambda y: y.mT,
        )  # fmt: skip


def _einsum(function: Callable[..., Tensor], equation: str, *operands: Any) -> Iterator[Product]:
    given = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    if not isinstance(equation, str) or len(given) != 2 or not all(isinstance(part, Tensor) for part in given):
        return
    labels = _labels(equation, given)
    if labels is None:
        return
    for k in (0, 1):
        product = _as_matrix(function, equation, given, labels, k)
        if product is not None:
            yield product


def _labels(equation: str, given: list[Tensor]) -> tuple[list[str], str] | None:
    """Return the labels of both operands and of the result, the ellipsis written out, or None for other forms."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if not arrow or len(parts) != 2:
        return None
    spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
    dots = [tensor.dim() - len(part.replace("...", "")) for part, tensor in zip(parts, given, strict=True)]
    widest = max((n for n, part in zip(dots, parts, strict=True) if "..." in part), default=0)
    if widest > len(spare):
        return None
    shown = "".join(spare[:widest])
    parts = [part.replace("...", shown[widest - n :] if n > 0 else "") for part, n in zip(parts, dots, strict=True)]
    output = output.replace("...", shown)
    if any(len(set(part)) < len(part) for part in (*parts, output)):
        return None
    return parts, output


def _as_matrix(
    function: Callable[..., Tensor], equation: str, given: list[Tensor], labels: tuple[list[str], str], k: int
) -> Product | None:
    """Return the product with operand `k`, `[out, in]` or `[in, out]`, as its weight, or None where it is no such."""
    (mine, others), output = (labels[0][k], labels[0][1 - k]), labels[1]
    if len(mine) != 2:
        return None
    summed = [c for c in mine if c in others and c not in output]
    kept = [c for c in mine if c in output and c not in others]
    if len(summed) != 1 or len(kept) != 1 or any(c not in output for c in others if c not in summed):
        return None
    turned = mine.index(kept[0]) == 1
    x = given[1 - k].movedim(others.index(summed[0]), -1)
    order = [c for c in others if c != summed[0]] + kept
    there = [output.index(c) for c in order]

    def exact(w: Tensor) -> Tensor:
        operand = w.mT if turned else w
        return function(equation, *((operand, given[1]) if k == 0 else (given[0], operand)))

    def back(y: Tensor) -> Tensor:
        return y.permute([order.index(c) for c in output])

    weight = given[k].mT if turned else given[k]
    return Product(Dense(), x, weight, None, exact, lambda y: y.permute(there), back)


READERS: dict[Callable[..., Any], Reader] = {
    F.linear: _linear,
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.matmul: _matmul,
    torch.linalg.matmul: _matmul,
    torch.mm: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.mm: _matmul,
    torch.Tensor.__matmul__: _matmul,
    torch.Tensor.__rmatmul__: _reversed_matmul,
    torch.addmm: _addmm,
    torch.Tensor.addmm: _addmm,
    torch.einsum: _einsum,
}
