"""A site: one stored matrix of a network, and where it lies in the network's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.operations import MappedLayer

SiteType = Literal["conv", "dense", "lstm", "gru", "attention", "other"]
SITE_TYPES: tuple[SiteType, ...] = ("conv", "dense", "lstm", "gru", "attention", "other")


@dataclass(frozen=True)
class Site:
    """A mapped matrix after whose product a compensation block may be placed.

    Attributes:
        name: qualified name of the layer, e.g. `features.0`, or of a parameter that belongs to no layer of torch.
        type: kind of layer.
        weight_shape: shape of the mapped weight, `[out, in/groups, kh, kw]` or `[out, in]`.
        in_channels: channels (features) of the product's input.
        out_channels: channels (features) of its output.
        fan_in: inputs of one output: rows of the unfolded matrix.
        positions: MVMs per image (output pixels; 1 for a vector), all calls together. 0 without `input_shape`.
        calls: how often one forward pass uses it. 0 without `input_shape`.
        bias: whether a (digital) bias is added.
        groups: independent matrices of a grouped convolution.
        parameter: qualified name of the parameter that holds the weight.
        view: size, stride and offset of the weight in the parameter where it is transposed or a part; else None.
        derived: whether the network multiplies by a function of the weight, such as its sign, and not by itself.
    """

    name: str
    type: SiteType
    weight_shape: tuple[int, ...]
    in_channels: int
    out_channels: int
    fan_in: int
    positions: int
    calls: int
    bias: bool
    groups: int = 1
    parameter: str = ""
    view: tuple[tuple[int, ...], tuple[int, ...], int] | None = None
    derived: bool = False

    @staticmethod
    def of_parameter(name: str, parameter: Tensor, turned: bool) -> Site:
        """Return a site of which nothing is known but its parameter, used transposed or as it is."""
        matrix = parameter.mT if turned else parameter
        shape = tuple(matrix.shape)
        view = (shape, matrix.stride(), 0) if turned else None
        return Site(name, "other", shape, 0, shape[0], matrix[0].numel(), 0, 0, False, 1, name, view)

    @property
    def weights(self) -> int:
        """Return the number of mapped weights."""
        return self.out_channels * self.fan_in

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates per image, all calls together."""
        return self.weights * self.positions

    def matrix(self, parameter: Tensor) -> Tensor:
        """Return the weight, `weight_shape`, as a view of its parameter."""
        if self.view is None:
            return parameter
        size, stride, offset = self.view
        return parameter.as_strided(size, stride, parameter.storage_offset() + offset)

    def covers(self, parameter: Tensor) -> bool:
        """Return whether the weight is the whole parameter, transposed or not."""
        return self.view is None or self.view == (tuple(parameter.mT.shape), parameter.mT.stride(), 0)

    def laid_out(self, weight: Tensor) -> Tensor:
        """Return another weight in the direction of the parameter that it covers."""
        return weight if self.view is None else weight.mT


def parameter_of(model: nn.Module, site: Site | str) -> Tensor:
    """Return the parameter that holds the weight of a site; a name alone is that of a layer or of a parameter.

    Raises:
        MappingError: the network has no such parameter.
    """
    path = (site.parameter or site.name) if isinstance(site, Site) else site
    holder: object = model
    for part in path.split(".") if path else ():
        holder = getattr(holder, part, None)
    if isinstance(holder, nn.Module):
        holder = getattr(holder, "weight", None)
    if not isinstance(holder, Tensor):
        raise MappingError(f"{type(model).__name__} has no layer or parameter '{path}'; map this network.")
    return holder


def has_site(model: nn.Module, site: Site) -> bool:
    """Return whether a network holds the weight of a site."""
    try:
        parameter = parameter_of(model, site)
    except MappingError:
        return False
    return parameter.numel() == site.weights if site.covers(parameter) else parameter.numel() > site.weights


def site_module(model: nn.Module, site: Site) -> MappedLayer:
    """Return the layer of a site.

    Raises:
        MappingError: its weight belongs to no layer of torch.
    """
    try:
        module = model.get_submodule(site.name)
    except AttributeError:
        module = None
    if not isinstance(module, MappedLayer):
        raise MappingError(
            f"Site {site.name} is a matrix without a layer of torch, which this cannot use; write it as a Linear layer."
        )
    return module


def whole(parameter: Tensor, tensor: Tensor) -> bool:
    """Return whether a tensor shows all of a parameter."""
    return tensor.numel() == parameter.numel()


def matrix_of(model: nn.Module, site: Site) -> Tensor:
    """Return the nominal weight of a site, `weight_shape`; gradients reach the parameter."""
    parameter = parameter_of(model, site)
    if site.view is None:
        return parameter
    if site.covers(parameter):
        return parameter.mT
    size, stride, offset = site.view
    return torch.as_strided(parameter, size, stride, parameter.storage_offset() + offset)
