"""Cut a network at its sites, so that placements can share what lies before the first difference.

The network is traced with torch.fx; between two site calls lies a segment. A state is the set of live values. A network
that cannot be traced is one opaque piece: correct, without sharing.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Mapping
from functools import partialmethod
from typing import Any

import torch
from torch import Tensor, fx, nn

from cimenv.crossbar.mapping import Site, site_module

State = dict[fx.Node, Any]
SiteFunction = Callable[[int, int, Tensor], Tensor]  # (call number, site number, input) -> output

_IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
_OTHER_IN_PLACE_OPERATORS = (operator.setitem, operator.ipow, operator.imod, operator.ifloordiv)
_VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_VIEWS = re.compile(  # names of functions and methods
    "alias|chunk|contiguous|detach|diagonal|dropout|expand(_as)?|flatten|float|getitem|movedim|narrow|permute|ravel|reshape"
    "|select|split|squeeze|swapaxes|swapdims|t|tensor_split|to|transpose|type(_as)?|unbind|unflatten|unfold|unsqueeze"
    "|view(_as)?"
)


class SegmentedNetwork:
    """A network as a chain of segments, each ending at the call of a site.

    Attributes:
        calls: site number of every call, in call order; empty if the network is opaque.
    """

    def __init__(self, model: nn.Module, sites: tuple[Site, ...]) -> None:
        self.sites = sites
        self.model = model
        self._number = {site.name: s for s, site in enumerate(sites)}
        self._modules = dict(model.named_modules())
        graph = _traced(model, set(self._number))
        self.calls: tuple[int, ...] = ()
        if graph is not None:
            self._split(graph)

    @property
    def opaque(self) -> bool:
        """Return whether the network could not be traced."""
        return not self.calls

    def start(self, images: Tensor, modules: Mapping[str, nn.Module] | None = None) -> State:
        """Return the state in front of the first site; `modules` as for `advance`."""
        return self._run(self._segments[0], {self._input: images}, modules or {})

    def site_input(self, call: int, state: State) -> Tensor:
        """Return the input of the site that `call` calls."""
        node = self._site_nodes[call].args[0]
        assert isinstance(node, fx.Node)
        value = state[node]
        assert isinstance(value, Tensor)
        return value

    def advance(self, call: int, state: State, output: Tensor, modules: Mapping[str, nn.Module] | None = None) -> State:
        """Return the state in front of the next site call, given this call's output; `state` is unchanged.

        Args:
            call: number of the call.
            state: the state in front of it.
            output: what the site gives, after its block.
            modules: modules to use in the place of the network's own (a chip's batch norms), by name.
        """
        after = {node: value for node, value in state.items() if node not in self._dead[call]}
        after[self._site_nodes[call]] = output
        return self._run(self._segments[call + 1], after, modules or {})

    def logits(self, state: State) -> Tensor:
        """Return the network's output from the last state."""
        value = state[self._output]
        assert isinstance(value, Tensor)
        return value

    def forward(self, images: Tensor, site: SiteFunction, modules: Mapping[str, nn.Module] | None = None) -> Tensor:
        """Run the whole network, with `site` in the place of every mapped layer."""
        if self.opaque:
            return self._forward_opaque(images, site, modules or {})
        state = self.start(images, modules)
        for call, number in enumerate(self.calls):
            state = self.advance(call, state, site(call, number, self.site_input(call, state)), modules)
        return self.logits(state)

    def _forward_opaque(self, images: Tensor, site: SiteFunction, modules: Mapping[str, nn.Module]) -> Tensor:
        model = copy.deepcopy(self.model)  # threads must not share patched modules
        count = iter(range(10**9))
        for name, module in modules.items():
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module)
        for number, here in enumerate(self.sites):
            layer = site_module(model, here)
            layer.forward = lambda input, number=number: site(next(count), number, input)  # type: ignore[method-assign,misc]
        output = model(images)
        assert isinstance(output, Tensor)
        return output

    def _split(self, graph: fx.Graph) -> None:
        nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        self._input = next(node for node in graph.nodes if node.op == "placeholder")
        output = next(node for node in graph.nodes if node.op == "output").args[0]
        assert isinstance(output, fx.Node)
        self._output = output
        self._site_nodes = [n for n in nodes if n.op == "call_module" and n.target in self._number]
        self.calls = tuple(self._number[str(node.target)] for node in self._site_nodes)
        self._segments: list[list[fx.Node]] = [[]]
        for node in nodes:
            if node in self._site_nodes:
                self._segments.append([])
            else:
                self._segments[-1].append(node)
        order = {node: k for k, node in enumerate(graph.nodes)}
        last_use = {node: max((order[user] for user in node.users), default=-1) for node in graph.nodes}
        self._last_use = last_use
        self._order = order
        self._dead = [
            {node for node in graph.nodes if last_use[node] <= order[site] and node is not self._output}
            for site in self._site_nodes
        ]

    def _run(self, segment: list[fx.Node], state: State, modules: Mapping[str, nn.Module]) -> State:
        for node in segment:
            args = fx.node.map_arg(node.args, state.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, state.__getitem__)
            state[node] = self._call(node, args, kwargs, modules)
            for used in node.all_input_nodes:
                if self._last_use[used] <= self._order[node]:
                    state.pop(used, None)
        return state

    def _call(self, node: fx.Node, args: Any, kwargs: Any, modules: Mapping[str, nn.Module]) -> Any:
        if node.op == "call_module":
            name = str(node.target)
            module = modules.get(name) or self._modules[name]
            return _call_leaf(module, args, kwargs)
        if node.op == "call_function":
            assert callable(node.target)
            return _IN_PLACE_OPERATORS.get(node.target, node.target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        value: Any = self.model
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value


def _call_leaf(module: nn.Module, args: Any, kwargs: Any) -> Any:
    if type(module) is nn.MaxPool2d and _is_2x2(module, args[0]):
        return max_pool_2x2(args[0])
    if getattr(module, "inplace", False):  # a shared prefix must survive
        return module(args[0].clone(), *args[1:], **kwargs)
    return module(*args, **kwargs)


def _is_2x2(pool: nn.MaxPool2d, x: Tensor) -> bool:
    plain = pool.padding in (0, (0, 0)) and pool.dilation in (1, (1, 1)) and not pool.return_indices
    square = pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and not pool.ceil_mode
    return plain and square and x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0 and x.device.type == "cpu"


def max_pool_2x2(x: Tensor) -> Tensor:
    """Return `max_pool2d(x, 2)`, bit for bit; two vectorised maxima are 10 x faster than torch's loop on a CPU."""
    if x.requires_grad and torch.is_grad_enabled():
        pooled = _MaxPool2x2.apply(x)
        assert isinstance(pooled, Tensor)
        return pooled
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class _MaxPool2x2(torch.autograd.Function):
    """The same with a gradient to the first of the largest values, half as dear as that of two maxima."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pooled = max_pool_2x2(x.detach())
        ctx.save_for_backward(x, pooled)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, pooled = ctx.saved_tensors
        spread, left = torch.empty_like(x), gradient
        for row in (0, 1):
            for column in (0, 1):
                here = x[..., row::2, column::2] == pooled
                given = left * here
                spread[..., row::2, column::2] = given
                left = left - given
        return spread


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


class _Tracer(fx.Tracer):
    def __init__(self, leaves: set[str]) -> None:
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _traced(model: nn.Module, sites: set[str]) -> fx.Graph | None:
    """Return the traced graph, or None where tracing fails or in-place calls would spoil shared values."""
    try:
        graph = _Tracer(sites).trace(model)
    except Exception:  # fx raises many kinds for control flow that depends on values
        return None
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    outputs = next(node for node in graph.nodes if node.op == "output").args[0]
    in_place = any(
        (node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__"))
        or (node.op == "call_function" and (node.kwargs.get("inplace") or _ends_in_underscore(node.target)))
        or node.target in _OTHER_IN_PLACE_OPERATORS
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
    return node.op == "call_function" and node.target in _IN_PLACE_OPERATORS


def _is_view(node: fx.Node, model: nn.Module) -> bool:
    """Return whether a node may give (a part of) its input's memory."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), _VIEW_MODULES)
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return _VIEWS.fullmatch(str(name)) is not None


def _ends_in_underscore(target: object) -> bool:
    name = getattr(target, "__name__", "")
    return name.endswith("_") and not name.endswith("__")
