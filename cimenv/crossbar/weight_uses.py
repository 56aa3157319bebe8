"""What functions of torch make of a weight that they are given, other than multiply by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import functional as F

LIKE = {
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "new"),
}
AS = {"to", "type_as", "expand_as", "view_as", "reshape_as"}  # another value, in the shape or type of the last argument
META = {
    *("size", "stride", "dim", "ndimension", "numel", "nelement", "element_size", "storage_offset", "data_ptr"),
    *("is_contiguous", "is_floating_point", "is_complex", "is_inference", "is_conj", "is_neg", "is_shared"),
    *("is_same_size", "get_device", "type", "requires_grad_", "untyped_storage", "__len__", "__hash__"),
}
VIEWS = {
    *("__get__", "__getitem__", "__iter__", "alias", "as_strided", "adjoint", "chunk", "contiguous", "detach"),
    *("diagonal", "expand", "expand_as", "flatten", "float", "hsplit", "movedim", "moveaxis", "narrow", "permute"),
    *("ravel", "reshape", "reshape_as", "select", "split", "squeeze", "swapaxes", "swapdims", "t", "tensor_split"),
    *("to", "transpose", "type_as", "unbind", "unflatten", "unfold", "unsqueeze", "view", "view_as", "vsplit"),
}
LOOKUPS = {F.embedding, F.embedding_bag}


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's own name."""
    return str(getattr(function, "__name__", ""))


def changes(function: Callable[..., Any]) -> bool:
    """Return whether a function changes its first argument in place."""
    name = name_of(function)
    operators = name.startswith("__i") and name not in ("__index__", "__iter__", "__int__", "__invert__")
    return name in ("__set__", "__setitem__") or operators or (name.endswith("_") and name[-2:] != "__")
