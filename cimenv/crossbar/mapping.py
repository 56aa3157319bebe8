"""Find the matrices of any `nn.Module` that go onto the crossbar, and name them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from cimenv.core.errors import DataError, MappingError
from cimenv.core.global_state import own_torch_state
from cimenv.core.seeding import torch_generator
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.devices import DeviceModel
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.layers import MappedLayer, ProgrammedWeight, layer_input, matrix_inputs, program_weight

SiteType = Literal["conv", "dense", "lstm", "gru", "attention", "other"]
UNMAPPED = nn.Conv3d | nn.modules.conv._ConvTransposeNd | nn.Bilinear | nn.RNNBase | nn.RNNCellBase
CALIBRATION_BLOCK, CALIBRATION_VALUES = 250, 100_000
VECTOR = 16  # single-precision numbers of a vector register
SITE_TYPES: tuple[SiteType, ...] = ("conv", "dense", "lstm", "gru", "attention", "other")


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
        input_ranges: alpha of every tile of a site, `[tiles]`, by name; needed where the crossbar is analog.
        gains_by_channels_last: whether exact products run faster on channels-last images, and the model takes them.
    """

    model: nn.Module
    config: CrossbarConfig
    sites: tuple[Site, ...]
    input_ranges: Mapping[str, Tensor] = field(default_factory=dict)
    gains_by_channels_last: bool = False

    @property
    def layout(self) -> torch.memory_format:
        """Return the memory layout in which images are fed: an analog chain works on unfolded patches."""
        return torch.channels_last if self.gains_by_channels_last and not self.analog else torch.contiguous_format

    @property
    def analog(self) -> bool:
        """Return whether any site's products run through the analog chain, so that input ranges are needed."""
        return any(self.config.at(site.name).analog for site in self.sites)

    def weights(self) -> dict[str, Tensor]:
        """Return the nominal weight of every site, by site name."""
        return {site.name: site_module(self.model, site).weight.detach() for site in self.sites}

    def program(
        self, generator: torch.Generator, device: DeviceModel | None = None, t_s: float = 0.0
    ) -> dict[str, ProgrammedWeight]:
        """Return one freshly programmed chip: noisy weights by site name (differentiable).

        Args:
            generator: draws the chip, and the read noise of its products.
            device: another device model than the crossbar's.
            t_s: seconds after programming.
        """
        return {site.name: self.program_site(site, generator, device=device, t_s=t_s) for site in self.sites}

    def program_site(
        self,
        site: Site,
        generator: torch.Generator,
        *,
        device: DeviceModel | None = None,
        t_s: float = 0.0,
        read: torch.Generator | None = None,
    ) -> ProgrammedWeight:
        """Return the weight of one site on one chip; see `program_weight`."""
        config = self.config.at(site.name)
        return program_weight(
            site_module(self.model, site).weight,
            config if device is None else config.model_copy(update={"device": device}),
            generator,
            groups=site.groups,
            input_range=self.input_ranges.get(site.name),
            t_s=t_s,
            read=read,
        )

    @own_torch_state()
    def calibrated(self, images: Tensor, quantile: float | None = None) -> MappedNetwork:
        """Return the network with input ranges: a quantile of |x| at every tile, over images of the clean network.

        Args:
            images: training images, `[n, c, h, w]`.
            quantile: default the crossbar's `input_quantile`.
        """
        return replace(self, input_ranges=calibrated_ranges(self, images, quantile))


@own_torch_state()
def map_network(model: nn.Module, config: CrossbarConfig, input_shape: Sequence[int] | None = None) -> MappedNetwork:
    """Map every convolution, Linear, LSTM, GRU and attention of `model`; biases, norms and embeddings stay digital.

    So do the layers that `config.digital` names.

    Args:
        model: any module; it is not changed. A module called twice is one array and one site. Where it has recurrent
            or attention modules of torch, an equivalent copy made of single matrices is mapped (see `explicit`).
        config: the crossbar.
        input_shape: shape of one image, e.g. `(1, 28, 28)`. With it sites come in call order, with positions and
            MACs, and layers that a forward pass never calls are left out.

    Raises:
        MappingError: no layer can be mapped; one is of a kind that cannot be, or holds NaN; or a name pattern of the
            crossbar matches none.
        DataError: an image of `input_shape` does not pass through the model.
    """
    model = explicit(model)
    named = _mappable(model, config.digital)
    if not named:
        raise MappingError(f"{type(model).__name__} has no layer with a matrix; give a model that has at least one.")
    _check_patterns("overrides", config.overrides, list(named.values()))
    if input_shape is None:
        return MappedNetwork(model, config, tuple(_site(name, module, []) for module, name in named.items()))
    calls = _trace_calls(model, list(named.values()), tuple(input_shape))
    if not calls:
        raise MappingError(
            f"{type(model).__name__} never calls one of its layers with a matrix; "
            "call the layer itself instead of using its weight."
        )
    by_name = {name: module for module, name in named.items()}
    sites = tuple(_site(n, by_name[n], p) for n, p in calls.items())
    gains = _wide(sites) and _takes_channels_last(model, tuple(input_shape))
    return MappedNetwork(model, config, sites, gains_by_channels_last=gains)


def _wide(sites: Sequence[Site]) -> bool:
    """Return whether most products are of convolutions whose channels fill vector registers: a measured rule."""
    images = [site for site in sites if len(site.weight_shape) == 4]
    wide = sum(s.macs for s in images if s.in_channels % VECTOR == 0 and s.out_channels % VECTOR == 0)
    return 2 * wide > sum(site.macs for site in sites)


def _takes_channels_last(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Return whether the model runs on channels-last images: one that calls `view` on feature maps does not."""
    if len(input_shape) != 3 or any(parameter.is_meta for parameter in model.parameters()):
        return False
    try:
        with torch.no_grad():
            copy.deepcopy(model).eval()(torch.zeros(2, *input_shape).to(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


def _mappable(model: nn.Module, digital: Sequence[str]) -> dict[nn.Module, str]:
    """Return the layers that go on the crossbar, with their names."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, MappedLayer | UNMAPPED)}
    _check_patterns("digital", digital, list(layers))
    named: dict[nn.Module, str] = {}
    for name, module in layers.items():
        if any(fnmatchcase(name, pattern) for pattern in digital):
            continue
        if isinstance(module, UNMAPPED):
            raise MappingError(
                f"Layer {name} is a {type(module).__name__}, which cannot be mapped; "
                f"keep it digital with crossbar.digital: ['{name}']."
            )
        if module.weight.numel() == 0:
            continue
        if not (module.weight.is_meta or bool(module.weight.isfinite().all())):
            raise MappingError(f"Layer {name} has weights that are NaN or infinite; train the network again.")
        named[module] = name
    return named


def _check_patterns(field: str, patterns: Iterable[str], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise MappingError(f"crossbar.{field}: '{pattern}' matches no layer; known: {', '.join(names)}.")


def site_module(model: nn.Module, site: Site) -> MappedLayer:
    """Return the module of a site."""
    module = model.get_submodule(site.name)
    assert isinstance(module, MappedLayer)
    return module


def calibrated_ranges(network: MappedNetwork, images: Tensor, quantile: float | None = None) -> dict[str, Tensor]:
    """Return the input range of every tile of every site, `[tiles]`: a quantile of |x| over images.

    Raises:
        MappingError: a site is never called.
    """
    share = network.config.input_quantile if quantile is None else quantile
    seen: dict[str, list[list[Tensor]]] = {site.name: [] for site in network.sites}
    hooks = []
    for site in network.sites:

        def record(
            module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], name: str = site.name
        ) -> None:
            assert isinstance(module, MappedLayer)
            parts = matrix_inputs(module, layer_input(args, named).detach(), network.config.at(name))
            seen[name].append([sampled(part.abs()) if share < 1 else part.abs().amax().reshape(1) for part in parts])

        hooks.append(site_module(network.model, site).register_forward_pre_hook(record, with_kwargs=True))
    training = network.model.training
    try:
        with torch.no_grad():
            for block in images.split(CALIBRATION_BLOCK):
                network.model.eval()(block)
    finally:
        network.model.train(training)
        for hook in hooks:
            hook.remove()
    for name, calls in seen.items():
        if not calls:
            raise MappingError(f"Layer {name} is never called; give map_network the input shape, and it is left out.")
    tiles = {name: zip(*calls, strict=True) for name, calls in seen.items()}
    return {name: torch.stack([_range(parts, share) for parts in each]) for name, each in tiles.items()}


def sampled(values: Tensor) -> Tensor:
    """Return at most CALIBRATION_VALUES of some values, the same at every call: a quantile needs no more."""
    if len(values) <= CALIBRATION_VALUES:
        return values.clone()
    draws = torch_generator("calibration", len(values))
    return values[torch.randint(len(values), (CALIBRATION_VALUES,), generator=draws).to(values.device)]


def _range(parts: Sequence[Tensor], quantile: float) -> Tensor:
    values = torch.cat(list(parts)).sort().values
    found = values[min(len(values) - 1, int(quantile * len(values)))]
    return torch.where(found > 0, found, torch.ones_like(found))


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
            channels = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
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
    assert isinstance(module, MappedLayer)
    kind: SiteType
    if isinstance(module, nn.Linear):
        kind, channels = "dense", (module.in_features, module.out_features)
    else:
        kind, channels = "conv", (module.in_channels, module.out_channels)
    return Site(
        name=name,
        type=getattr(module, "site_type", kind),
        weight_shape=tuple(module.weight.shape),
        in_channels=channels[0],
        out_channels=channels[1],
        fan_in=module.weight[0].numel(),
        positions=sum(positions),
        calls=len(positions),
        bias=module.bias is not None,
        groups=getattr(module, "groups", 1),
    )
