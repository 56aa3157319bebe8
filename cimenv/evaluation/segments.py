"""Cut a network at its sites, so that placements can share what lies before the first difference.

The network is traced with torch.fx; between two site calls lies a segment. A state is the set of live values. A network
that cannot be traced, or whose sites are not plain calls of torch's own layers, is one opaque piece that runs as its
author wrote it: correct, without sharing.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.eager import eagerly
from cimenv.crossbar.interception import Intercepted, SiteCall, StoredWeights
from cimenv.crossbar.layers import ProgrammedWeight, layer_forward
from cimenv.crossbar.operations import MappedLayer
from cimenv.crossbar.sites import Site, site_module
from cimenv.evaluation.tracing import IN_PLACE_OPERATORS, traced

State = dict[fx.Node, Any]
Product = Callable[[ProgrammedWeight, torch.Generator | None], Tensor]  # a site's outputs with a weight
SiteFunction = Callable[[int, int, Tensor, Product], Tensor]  # (call number, site number, input, product) -> output


class SegmentedNetwork:
    """A network as a chain of segments, each ending at the call of a site.

    Args:
        model: the network.
        sites: its sites.
        plain: take the network as one opaque piece, whatever it is.
        origins: parameters that it was copied from, see `StoredWeights`.

    Attributes:
        calls: site number of every call, in call order; empty if the network is opaque.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: tuple[Site, ...],
        plain: bool = False,
        origins: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.sites, self.model, self.plain, self.origins = sites, model, plain, origins or {}
        self._number = {site.name: s for s, site in enumerate(sites)}
        self._modules = dict(model.named_modules())
        self.calls: tuple[int, ...] = ()
        if plain or not all(is_plain(model, site) for site in sites):
            return
        names = set(self._number)
        graph = traced(model, names)
        if graph is None or self._reads_weights(graph):
            return
        if _calls(graph, names) == {site.name: site.calls for site in sites if site.calls}:
            self._layers = [site_module(model, site) for site in sites]
            self._split(graph)

    def _reads_weights(self, graph: fx.Graph) -> bool:
        """Return whether anything but the call of a site is given a site's weight."""
        memory = StoredWeights(self.model, self.sites, self.origins).memory
        read: list[Any] = []
        for node in graph.nodes:
            if node.op == "get_attr":
                read.append(self._attribute(str(node.target)))
            elif node.op == "call_module" and node.target not in self._number:
                read += self._modules[str(node.target)].parameters()
        return any(isinstance(value, Tensor) and value in memory for value in read)

    def _attribute(self, path: str) -> Any:
        value: Any = self.model
        for part in path.split("."):
            value = getattr(value, part)
        return value

    @property
    def opaque(self) -> bool:
        """Return whether the network could not be traced."""
        return not self.calls

    def on(self, device: torch.device) -> SegmentedNetwork:
        """Return a copy of the network on another device."""
        origins = {**self.origins, **dict(self.model.named_parameters())}
        return SegmentedNetwork(copy.deepcopy(self.model).to(device), self.sites, self.plain, origins)

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

    def product(self, call: int, x: Tensor) -> Product:
        """Return the product of the site that `call` calls, with its inputs `x`."""
        return partial(_layer_product, self._layers[self.calls[call]], x)

    def forward(
        self,
        images: Tensor,
        site: SiteFunction,
        weights: Mapping[str, ProgrammedWeight] | None = None,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> Tensor:
        """Run the whole network, with `site` giving the outputs of every product at a site.

        Args:
            images: inputs.
            site: called at every site call.
            weights: what sites compute with; used where a network does more with a weight than multiply by it.
            modules: as for `advance`.
        """
        if self.opaque:
            return self._forward_opaque(images, site, weights or {}, modules or {})
        state = self.start(images, modules)
        for call, number in enumerate(self.calls):
            x = self.site_input(call, state)
            state = self.advance(call, state, site(call, number, x, self.product(call, x)), modules)
        return self.logits(state)

    def _forward_opaque(
        self,
        images: Tensor,
        site: SiteFunction,
        weights: Mapping[str, ProgrammedWeight],
        modules: Mapping[str, nn.Module],
    ) -> Tensor:
        model, origins = self.model, dict(self.origins)
        if modules:  # of this chip: other threads must not meet them
            origins |= dict(model.named_parameters())
            model = copy.deepcopy(model)
            for name, module in modules.items():
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, module)
        count = itertools.count()

        def at_site(call: SiteCall) -> Tensor:
            return site(next(count), self._number[call.site], call.x, partial(_called_product, call))

        with eagerly(), Intercepted(StoredWeights(model, self.sites, origins), weights, at_site):
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
            return IN_PLACE_OPERATORS.get(node.target, node.target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return self._attribute(str(node.target))


def is_plain(model: nn.Module, site: Site) -> bool:
    """Return whether a site is a layer of torch that computes as torch wrote it, without hooks."""
    if site.derived or site.view is not None:
        return False
    try:
        layer = site_module(model, site)
    except MappingError:
        return False
    own = next(kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d) if isinstance(layer, kind))
    written = type(layer).forward is own.forward and "forward" not in vars(layer)
    if not isinstance(layer, nn.Linear):
        product = getattr(type(layer), "_conv_forward", None)
        written = written and product is getattr(own, "_conv_forward", None) and layer.padding_mode == "zeros"
    return written and not layer._forward_hooks and not layer._forward_pre_hooks


def _calls(graph: fx.Graph, names: set[str]) -> dict[str, int]:
    """Return how often a graph calls each site."""
    return Counter(str(node.target) for node in graph.nodes if node.op == "call_module" and node.target in names)


def _layer_product(
    layer: MappedLayer, x: Tensor, weight: ProgrammedWeight, generator: torch.Generator | None = None
) -> Tensor:
    return layer_forward(layer, x, weight, generator)


def _called_product(call: SiteCall, weight: ProgrammedWeight, generator: torch.Generator | None = None) -> Tensor:
    return (call if call.changed else dataclasses.replace(call, weight=weight)).outputs(generator)


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
