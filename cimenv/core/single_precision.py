"""With how many bits torch multiplies single-precision numbers: every switch of it, read and set exactly."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

# A kind of product without a setting of its own takes its backend's, and a backend that of all.
GENERAL = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
PRODUCTS = tuple((backend, kind) for backend in ("cuda", "mkldnn") for kind in ("matmul", "conv", "rnn"))
TF32_BY_DEFAULT = (("cuda", "conv"), ("cuda", "rnn"))
INHERITED = "none"
NAMED = hasattr(torch._C, "_get_fp32_precision_getter")  # the settings above; older torch has the other two only
T = TypeVar("T")


@dataclass(frozen=True)
class ProductPrecision:
    """What the switches say.

    Attributes:
        matmul: the older switch of matrix products; None where it contradicts the newer ones, which then count.
        cudnn_tf32: the older switch of convolutions on a GPU; None likewise.
        named: one entry for each of `GENERAL` and `PRODUCTS`.
    """

    matmul: str | None
    cudnn_tf32: bool | None
    named: tuple[str, ...]


DEFAULT = ProductPrecision(
    "highest", True, tuple("tf32" if name in TF32_BY_DEFAULT else INHERITED for name in (*GENERAL, *PRODUCTS))
)


def product_precision() -> ProductPrecision:
    """Return the precision that torch's switches set: `DEFAULT` wherever products are those of torch's defaults."""
    if NAMED and _as_by_default():
        return DEFAULT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the older switches deprecated
        matmul = _unless_mixed(torch.get_float32_matmul_precision)
        cudnn_tf32 = _unless_mixed(lambda: bool(torch.backends.cudnn.allow_tf32))
    return ProductPrecision(matmul, cudnn_tf32, _own_values() if NAMED else DEFAULT.named)


def set_product_precision(state: ProductPrecision) -> None:
    """Set torch's switches to what they said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if state.matmul is not None:
            torch.set_float32_matmul_precision(state.matmul)
        if state.cudnn_tf32 is not None:
            torch.backends.cudnn.allow_tf32 = state.cudnn_tf32
    if NAMED:
        for name, value in zip((*GENERAL, *PRODUCTS), state.named, strict=True):
            torch._C._set_fp32_precision_setter(*name, value)


def _as_by_default() -> bool:
    """Return whether the values that count, inherited or not, mean full precision, but for convolutions on a GPU."""
    for name in PRODUCTS:
        wanted = ("tf32",) if name in TF32_BY_DEFAULT else (INHERITED, "ieee")
        if torch._C._get_fp32_precision_getter(*name) not in wanted:
            return False
    return True


def _own_values() -> tuple[str, ...]:
    """Return every switch's own value: torch answers with an inherited one unless what it inherits from is cleared."""
    values = []
    for name in (*GENERAL, *PRODUCTS):
        values.append(torch._C._get_fp32_precision_getter(*name))
        if name in GENERAL:
            torch._C._set_fp32_precision_setter(*name, INHERITED)
    for name, value in zip(GENERAL, values, strict=False):
        torch._C._set_fp32_precision_setter(*name, value)
    return tuple(values)


def _unless_mixed(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RuntimeError:
        return None
