"""Find the matrices of any `nn.Module` that go onto the crossbar, and name them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cimenv.core.errors import DataError, MappingError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.devices import DeviceModel

SiteType = Literal["conv", "dense", "lstm", "gru", "attention", "other"]
SITE_TYPES: tuple[SiteType, ...] = ("conv", "dense", "lstm", "gru", "attention", "other")
MAPPED_LAYERS: dict[type[nn.Module], SiteType] = {nn.Conv2d: "conv", nn.Linear: "dense"}


@dataclass(frozen=True)
class Site:
    """A mapped layer after which a compensation block may be placed.

    Attributes:
        name: qualified module name, e.g. `features.0`.
        type: kind of layer.
        weight_shape: shape of the mapped weight, `[out, in/groups, kh, kw]` or `[out, in]`.
        in_channels: channels (features) of the layer's input.
        out_channels: channels (features) of its output.
        fan_in: inputs of one output: rows of the unfolded matrix.
        positions: MVMs per image (output pixels; 1 for a vector), all calls together. 0 without `input_shape`.
        calls: how often one forward pass calls the layer. 0 without `input_shape`.
        bias: whether the layer has a (digital) bias.
        groups: independent matrices of a grouped convolution.
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

    @property
    def weights(self) -> int:
        """Return the number of mapped weights."""
        return self.out_channels * self.fan_in

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates per image, all calls together."""
        return self.weights * self.positions


@dataclass(frozen=True)
class MappedNetwork:
    """A backbone with its crossbar: the module itself is not changed.

    Attributes:
        model: the user's module.
        config: the crossbar.
        sites: mapped layers, in call order if `input_shape` was given, else in order of definition.
    """

    model: nn.Module
    config: CrossbarConfig
    sites: tuple[Site, ...]

    def weights(self) -> dict[str, Tensor]:
        """Return the nominal weight of every site, by site name."""
        return {site.name: site_module(self.model, site).weight.detach() for site in self.sites}

    def program(self, generator: torch.Generator, device: DeviceModel | None = None) -> dict[str, Tensor]:
        """Return one freshly programmed chip: noisy weights by site name (differentiable).

        Args:
            generator: draws the chip.
            device: another device model than the crossbar's.
        """
        device = device or self.config.device
        return {site.name: device.program(site_module(self.model, site).weight, generator) for site in self.sites}


def map_network(model: nn.Module, config: CrossbarConfig, input_shape: Sequence[int] | None = None) -> MappedNetwork:
    """Map every Conv2d and Linear of `model`; biases and normalisation stay digital.

    Args:
        model: any module; it is not changed. A module called twice is one array and one site.
        config: the crossbar.
        input_shape: shape of one image, e.g. `(1, 28, 28)`. With it sites come in call order, with positions and
            MACs, and layers that a forward pass never calls are left out.

    Raises:
        MappingError: no layer can be mapped.
        DataError: an image of `input_shape` does not pass through the model.
    """
    named: dict[nn.Module, str] = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 0
    }
    if not named:
        raise MappingError(f"{type(model).__name__} has no Conv2d or Linear layer; give a model that has at least one.")
    if input_shape is None:
        return MappedNetwork(model, config, tuple(_site(name, module, []) for module, name in named.items()))
    calls = _trace_calls(model, list(named.values()), tuple(input_shape))
    if not calls:
        raise MappingError(
            f"{type(model).__name__} never calls one of its Conv2d or Linear layers; "
            "call the layer itself instead of using its weight."
        )
    by_name = {name: module for module, name in named.items()}
    return MappedNetwork(model, config, tuple(_site(n, by_name[n], p) for n, p in calls.items()))


def site_module(model: nn.Module, site: Site) -> nn.Conv2d | nn.Linear:
    """Return the module of a site."""
    module = model.get_submodule(site.name)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return module


@contextmanager
def programmed(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Run `model` with other weights at its sites; the nominal ones are back afterwards, whatever happens.

    Gradients flow into `weights`.
    """
    modules = {name: model.get_submodule(name) for name in weights}
    nominal = {name: module._parameters["weight"] for name, module in modules.items()}
    try:
        for name, module in modules.items():  # in place of the parameter, so that the order of parameters stays
            module._parameters["weight"] = weights[name]  # type: ignore[assignment]
        yield model
    finally:
        for name, module in modules.items():
            module._parameters["weight"] = nominal[name]


def _trace_calls(model: nn.Module, names: list[str], input_shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Return the output positions of every call, by module name in order of first call."""
    shapes_only = copy.deepcopy(model).to("meta")
    try:
        return _positions(shapes_only, names, torch.empty(1, *input_shape, device="meta"))
    except (DataError, NotImplementedError):
        if any(parameter.is_meta for parameter in model.parameters()):
            raise
        # Control flow on values, or an operator without a meta kernel: run one real image instead.
        return _positions(copy.deepcopy(model), names, torch.zeros(1, *input_shape))


def _positions(model: nn.Module, names: list[str], image: Tensor) -> dict[str, list[int]]:
    calls: dict[str, list[int]] = {}
    hooks = []
    for name in names:

        def record(module: nn.Module, args: object, output: Tensor, name: str = name) -> None:
            channels = output.shape[1] if isinstance(module, nn.Conv2d) else output.shape[-1]
            calls.setdefault(name, []).append(output.numel() // channels)

        hooks.append(model.get_submodule(name).register_forward_hook(record))
    try:
        with torch.no_grad():
            model.eval()(image)
    except NotImplementedError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(
            f"An image of shape {tuple(image.shape[1:])} does not pass through {type(model).__name__} "
            f"({str(error).splitlines()[0]}); give data or a backbone whose shapes fit."
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _site(name: str, module: nn.Module, positions: list[int]) -> Site:
    assert isinstance(module, nn.Conv2d | nn.Linear)
    if isinstance(module, nn.Conv2d):
        channels = (module.in_channels, module.out_channels)
    else:
        channels = (module.in_features, module.out_features)
    return Site(
        name=name,
        type=next(kind for layer, kind in MAPPED_LAYERS.items() if isinstance(module, layer)),
        weight_shape=tuple(module.weight.shape),
        in_channels=channels[0],
        out_channels=channels[1],
        fan_in=module.weight[0].numel(),
        positions=sum(positions),
        calls=len(positions),
        bias=module.bias is not None,
        groups=getattr(module, "groups", 1),
    )
