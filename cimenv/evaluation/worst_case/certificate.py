"""A sound lower bound of the worst case: interval bound propagation over boxes of WEIGHTS, in float64.

Values are kept as midpoint and radius (Rump's product); the last layer is bounded on differences of logits. What
attacks find can never lie below the certificate.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from cimenv.core.errors import ConfigError, MappingError
from cimenv.core.global_state import own_torch_state
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating

IMAGE_BLOCK = 250
ROUNDING = 1e-9  # relative slack for the rounding of float64 sums


@dataclass(frozen=True)
class Box:
    """All values within `radius` of `middle`."""

    middle: Tensor
    radius: Tensor

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest values."""
        return self.middle - self.radius, self.middle + self.radius

    @staticmethod
    def between(one: Tensor, other: Tensor) -> Box:
        """Return the box with these ends, in either order: a negative batch-norm scale swaps them."""
        return Box((one + other) / 2, (one - other).abs() / 2)

    def monotone(self, function: Callable[[Tensor], Tensor]) -> Box:
        """Return the image under a function that is monotone in every value."""
        low, high = self.ends
        return Box.between(function(low), function(high))


@own_torch_state()
def certified_correct(network: MappedNetwork, images: Tensor, labels: Tensor, bound: float) -> int:
    """Return how many images keep their label under EVERY deviation |dW| <= bound * S of the mapped layers.

    Args:
        network: the mapped backbone: chains and sums of convolutions, dense layers, ReLU, pooling, batch norm.
        images: `[n, c, h, w]`.
        labels: `[n]`.
        bound: th_g in (0, 1].

    Raises:
        ConfigError: `bound` lies outside (0, 1].
        MappingError: the network holds something that cannot be bounded.
    """
    if not 0 < bound <= 1:
        raise ConfigError(f"bound: got {bound}; give th_g in (0, 1].")
    propagation = _Propagation(network, bound)
    counts = 0
    with torch.no_grad():
        for x, y in zip(images.split(IMAGE_BLOCK), labels.split(IMAGE_BLOCK), strict=True):
            counts += int(propagation.certified(x.double(), y).sum())
    return counts


class _Propagation:
    def __init__(self, network: MappedNetwork, bound: float) -> None:
        try:
            with evaluating(network.model):
                self.graph = fx.symbolic_trace(network.model).graph
        except Exception as error:  # torch.fx raises many kinds
            raise MappingError(f"The network cannot be traced ({error}); attack it instead of certifying it.") from None
        self.modules = dict(network.model.named_modules())
        self.radii = {site.name: bound * float(self._weight(site.name).abs().amax()) for site in network.sites}
        last = next(iter(reversed(self.graph.nodes))).args[0]
        if not (isinstance(last, fx.Node) and isinstance(self.modules.get(str(last.target)), nn.Linear)):
            raise MappingError("The network does not end in a dense layer; attack it instead of certifying it.")
        self.last: fx.Node = last

    def certified(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return `[n]`: whether every other logit stays below the true one."""
        values: dict[fx.Node, Any] = {}
        for node in self.graph.nodes:
            if node is self.last:
                break
            values[node] = self._value(node, values, images)
        source = self.last.args[0]
        assert isinstance(source, fx.Node)
        return self._margins(values[source], labels)

    def _value(self, node: fx.Node, values: Mapping[fx.Node, Any], images: Tensor) -> Any:
        if node.op == "placeholder":
            return Box(images, torch.zeros_like(images))
        given: Any = fx.map_arg(node.args, lambda n: values[n])
        if node.op == "call_module":
            return self._through(str(node.target), given[0])
        box = given[0]
        if node.target in (operator.add, operator.iadd, torch.add) and isinstance(given[1], Box):
            return Box(box.middle + given[1].middle, box.radius + given[1].radius)
        if node.target in (F.relu, torch.relu, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.flatten):
            function = node.target
            assert callable(function)
            return box.monotone(lambda v: function(v, *given[1:], **node.kwargs))
        if node.op == "call_method" and node.target in ("flatten", "view", "reshape", "relu", "mean"):
            return box.monotone(lambda v: getattr(v, str(node.target))(*given[1:], **node.kwargs))
        raise MappingError(f"The operation {node.target} cannot be bounded; attack the network instead.")

    def _through(self, name: str, box: Box) -> Box:
        module = self.modules[name]
        if isinstance(module, nn.Conv2d | nn.Linear):
            return self._product(name, module, box)
        if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.Flatten):
            return box.monotone(module)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.running_mean is not None:
            return box.monotone(_copied_double(module))
        if isinstance(module, nn.Dropout | nn.Identity):
            return box
        raise MappingError(f"Layer {name} ({type(module).__name__}) cannot be bounded; attack the network instead.")

    def _product(self, name: str, module: nn.Conv2d | nn.Linear, box: Box) -> Box:
        weight, bias = self._weight(name), None if module.bias is None else module.bias.detach().double()
        radius = torch.full_like(weight, self.radii.get(name, 0.0))

        def product(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
            if isinstance(module, nn.Linear):
                return F.linear(x, w, b)
            return module._conv_forward(x, w, b)  # with the module's own padding mode

        spread = product(box.radius, weight.abs() + radius) + product(box.middle.abs(), radius)
        slack = ROUNDING * (spread + product(box.middle.abs(), weight.abs()))
        return Box(product(box.middle, weight, bias), spread + slack)

    def _margins(self, box: Box, labels: Tensor) -> Tensor:
        name = str(self.last.target)
        module = self.modules[name]
        assert isinstance(module, nn.Linear)
        weight, radius = self._weight(name), self.radii.get(name, 0.0)
        bias = torch.zeros(len(weight), dtype=torch.float64) if module.bias is None else module.bias.detach().double()
        difference = weight[labels][:, None, :] - weight[None]  # [n, classes, in]
        middle = torch.einsum("nci,ni->nc", difference, box.middle) + bias[labels][:, None] - bias[None]
        largest = (box.middle.abs() + box.radius).sum(1, keepdim=True)
        spread = torch.einsum("nci,ni->nc", difference.abs(), box.radius) + 2 * radius * largest
        slack = ROUNDING * (spread + torch.einsum("nci,ni->nc", difference.abs(), box.middle.abs()))
        safe = middle - spread - slack > 0
        return safe.scatter(1, labels[:, None], True).all(1)

    def _weight(self, name: str) -> Tensor:
        weight = self.modules[name].weight
        assert isinstance(weight, Tensor)
        return weight.detach().double()


def _copied_double(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double().eval()
