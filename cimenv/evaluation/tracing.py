"""Trace a network with torch.fx, and tell whether calls in place would spoil values that placements share."""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable
from functools import partialmethod
from typing import Any

from torch import fx, nn

IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_OTHERS_IN_PLACE = (operator.setitem, operator.ipow, operator.imod, operator.ifloordiv)
_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_VIEWS = re.compile(  # names of functions and methods
    "alias|chunk|contiguous|detach|diagonal|dropout|expand(_as)?|flatten|float|getitem|movedim|narrow|permute|ravel|reshape"
    "|select|split|squeeze|swapaxes|swapdims|t|tensor_split|to|transpose|type(_as)?|unbind|unflatten|unfold|unsqueeze"
    "|view(_as)?"
)


class _Proxy(fx.Proxy):
    """A traced value that also notes where it is changed in place; torch's own takes `x += 1` for `x = x + 1`."""

    def _changed(self, by: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", by, (self, other), {})

    __iadd__ = partialmethod(_changed, operator.iadd)
    __isub__ = partialmethod(_changed, operator.isub)
    __imul__ = partialmethod(_changed, operator.imul)
    __itruediv__ = partialmethod(_changed, operator.itruediv)
    __ipow__ = partialmethod(_changed, operator.ipow)
    __imod__ = partialmethod(_changed, operator.imod)
    __ifloordiv__ = partialmethod(_changed, operator.ifloordiv)


_TRACING = threading.Lock()  # torch.fx replaces methods of all modules while it traces


class _Tracer(fx.Tracer):
    def __init__(self, leaves: set[str]) -> None:
        super().__init__()
        self.leaves = leaves
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace a call; torch.fx sees the calls of all threads, so those of others run as they are."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return an attribute of a module, for another thread as it is."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def traced(model: nn.Module, sites: set[str]) -> fx.Graph | None:
    """Return the traced graph, or None where tracing fails or in-place calls would spoil shared values."""
    try:
        with _TRACING:
            graph = _Tracer(sites).trace(model)
    except Exception:  # fx raises many kinds for control flow that depends on values
        return None
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    outputs = next(node for node in graph.nodes if node.op == "output").args[0]
    in_place = any(
        (node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__"))
        or (node.op == "call_function" and (node.kwargs.get("inplace") or _ends_in_underscore(node.target)))
        or node.target in _OTHERS_IN_PLACE
        for node in graph.nodes
    )
    by_keyword = any(node.op == "call_module" and node.target in sites and not node.args for node in graph.nodes)
    simple = len(placeholders) == 1 and not by_keyword and sites <= called and isinstance(outputs, fx.Node)
    return graph if simple and not in_place and not _changes_what_is_used_again(graph, model) else None


def _changes_what_is_used_again(graph: fx.Graph, model: nn.Module) -> bool:
    """Return whether a call in place changes a value, or another view of it, that is used after it."""
    order = {node: k for k, node in enumerate(graph.nodes)}
    memory: dict[fx.Node, list[fx.Node]] = {}  # nodes that may share one
    for node in graph.nodes:
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node) and (_is_in_place(node, model) or _is_view(node, model)):
            memory[node] = memory[first]
        else:
            memory[node] = []
        memory[node].append(node)
    for node in graph.nodes:
        if _is_in_place(node, model):
            before = (other for other in memory[node] if order[other] < order[node])
            if any(order[user] > order[node] for other in before for user in other.users):
                return True
    return False


def _is_in_place(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    return node.op == "call_function" and node.target in IN_PLACE_OPERATORS


def _is_view(node: fx.Node, model: nn.Module) -> bool:
    """Return whether a node may give (a part of) its input's memory."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), _VIEW_MODULES)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return _VIEWS.fullmatch(str(name)) is not None


def _ends_in_underscore(target: object) -> bool:
    name = getattr(target, "__name__", "")
    return name.endswith("_") and not name.endswith("__")
