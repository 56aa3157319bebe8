"""Make sites of the products that a forward pass showed, and say what stays digital."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.discovery import Seen, Use
from cimenv.crossbar.interception import unreadable
from cimenv.crossbar.operations import Convolution, MappedLayer
from cimenv.crossbar.report import Unmapped
from cimenv.crossbar.sites import Site, SiteType

UNMAPPED = nn.Conv3d | nn.modules.conv._ConvTransposeNd | nn.Bilinear | nn.RNNBase | nn.RNNCellBase


class SitesOfUses:
    """Makes sites of the uses of stored weights that a forward pass showed."""

    def __init__(self, model: nn.Module, config: CrossbarConfig, seen: Seen, layers: list[str]) -> None:
        self.model, self.config, self.seen, self.layers = model, config, seen, layers
        self.notes: list[str] = []
        self.names = _names(model)
        self.used: dict[str, dict[tuple[object, ...], list[Use]]] = {}  # by parameter, by part of it
        for use in seen.uses:
            parts = self.used.setdefault(use.parameter, {})
            parts.setdefault((use.size, use.stride, use.offset, use.derived), []).append(use)

    def found(self) -> tuple[tuple[Site, ...], list[Unmapped], tuple[str, ...]]:
        """Return sites in call order, digital parts and notes.

        Raises:
            MappingError: there is no site, or an analog array cannot do what the network asks of one.
        """
        known = [*self.layers, *(self.names[p] for p in self.used), *self.used]
        check_patterns("digital", self.config.digital, list(dict.fromkeys(known)))
        sites, digital = [], []
        for parameter, parts in self.used.items():
            name = self.names[parameter]
            if matches(name, self.config.digital) or matches(parameter, self.config.digital):
                macs = sum(use.macs for uses in parts.values() for use in uses)
                size = self.model.get_parameter(parameter).numel()
                digital.append(Unmapped(name, size, macs, "named by crossbar.digital"))
            else:
                sites += self._of_parameter(name, parameter, parts)
        for parameter, (macs, reason) in self.seen.others.items():
            if parameter not in self.used:
                size = self.model.get_parameter(parameter).numel()
                digital.append(Unmapped(self.names.get(parameter, parameter), size, macs, reason))
        if not sites:
            raise nothing_to_map(self.model, bool(self.layers) and not digital)
        first = {
            (use.parameter, use.size, use.stride, use.offset): k for k, use in reversed([*enumerate(self.seen.uses)])
        }
        sites.sort(key=lambda pair: first[pair[1]])
        return tuple(site for site, _ in sites), digital, tuple(self.notes)

    def _of_parameter(
        self, name: str, parameter: str, parts: dict[tuple[object, ...], list[Use]]
    ) -> list[tuple[Site, tuple[str, tuple[int, ...], tuple[int, ...], int]]]:
        held = self.model.get_parameter(parameter)
        check_finite(name, held)
        shared = [other for other in _names_of(self.model, held) if other != parameter]
        if shared:
            self.notes.append(f"{parameter} is also {', '.join(shared)}: one array serves all.")
        uses = [group for group in parts.values() if int(torch.Size(group[0].size).numel()) == held.numel()]
        chosen = [min(uses, key=lambda group: group[0].derived)] if uses else list(parts.values())
        if len(chosen) > 1 and _overlap(held, [group[0] for group in chosen]):
            raise MappingError(
                f"Parameter {parameter} is used in parts that overlap, which are no arrays of their own; "
                f"keep it digital with crossbar.digital: ['{name}']."
            )
        taken = {id(group) for group in chosen}
        if any(id(group) not in taken for group in parts.values()):
            self.notes.append(f"{name} is used in more than one way; blocks stand behind the first.")
            if self.config.at(name).analog:
                raise unreadable(name)
        sites = []
        for k, group in enumerate(chosen):
            own = name if len(chosen) == 1 else f"{name}[{k}]"
            if group[0].derived and self.config.at(own).analog:
                raise unreadable(own)
            use = group[0]
            sites.append((_of_uses(self.model, own, group, held), (use.parameter, use.size, use.stride, use.offset)))
        return sites


def _overlap(held: Tensor, uses: Sequence[Use]) -> bool:
    """Return whether parts of a parameter share numbers."""
    places = torch.arange(sum((n - 1) * step for n, step in zip(held.shape, held.stride(), strict=True)) + 1)
    parts = [places.as_strided(use.size, use.stride, use.offset).flatten() for use in uses]
    return len(torch.cat(parts).unique()) < sum(len(part) for part in parts)


def _of_uses(model: nn.Module, name: str, uses: Sequence[Use], held: Tensor) -> Site:
    use = uses[0]
    groups = use.operation.groups
    plain = use.size == tuple(held.shape) and use.stride == held.stride() and use.offset == 0
    owner = model.get_submodule(use.parameter.rpartition(".")[0])
    kind: SiteType = "conv" if isinstance(use.operation, Convolution) else "dense"
    return Site(
        name=name,
        type=getattr(owner, "site_type", kind),
        weight_shape=use.size,
        in_channels=use.size[1] * groups,
        out_channels=use.size[0],
        fan_in=int(torch.Size(use.size[1:]).numel()),
        positions=sum(each.positions for each in uses),
        calls=len(uses),
        bias=use.bias,
        groups=groups,
        parameter=use.parameter,
        view=None if plain else (use.size, use.stride, use.offset),
        derived=use.derived,
    )


def site_of_layer(name: str, layer: nn.Module) -> Site:
    """Return the site of a layer of torch whose use was not seen."""
    assert isinstance(layer, MappedLayer)
    kind: SiteType = "dense" if isinstance(layer, nn.Linear) else "conv"
    shape, groups = tuple(layer.weight.shape), getattr(layer, "groups", 1)
    return Site(
        name=name,
        type=getattr(layer, "site_type", kind),
        weight_shape=shape,
        in_channels=shape[1] * groups,
        out_channels=shape[0],
        fan_in=layer.weight[0].numel(),
        positions=0,
        calls=0,
        bias=layer.bias is not None,
        groups=groups,
        parameter=f"{name}.weight" if name else "weight",
    )


def _names(model: nn.Module) -> dict[str, str]:
    """Return the site name of every parameter: its layer's where it is the `weight` of one, else its own."""
    found: dict[str, str] = {}
    for parameter, _ in model.named_parameters(remove_duplicate=False):
        owner, _, name = parameter.rpartition(".")
        layer = name == "weight" and (owner or isinstance(model, MappedLayer))
        found[parameter] = owner if layer else parameter
    return found


def _names_of(model: nn.Module, held: Tensor) -> list[str]:
    return [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is held]


def unused_parameters(model: nn.Module, sites: Sequence[Site], digital: Sequence[Unmapped]) -> list[Unmapped]:
    """Return the parameters that are neither mapped nor named as digital, by module and reason."""
    mapped = {site.parameter for site in sites}
    known = {part.name for part in digital}
    names, rest = _names(model), []
    for parameter, held in model.named_parameters():
        owner = model.get_submodule(parameter.rpartition(".")[0])
        if mapped & set(_names_of(model, held)) or names[parameter] in known:
            continue
        if parameter.endswith("bias"):
            reason = "biases are added digitally"
        elif isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            reason = "embeddings are looked up"
        elif isinstance(owner, MappedLayer):
            reason = "never multiplied by"
        else:
            reason = "not multiplied by as matrices"
        rest.append(Unmapped(parameter, held.numel(), 0, reason))
    return rest


def refuse_unmapped(layers: Mapping[str, nn.Module], config: CrossbarConfig) -> None:
    """Refuse layers of kinds that cannot be mapped, unless they are kept digital.

    Raises:
        MappingError: there is one.
    """
    for name, module in layers.items():
        if isinstance(module, UNMAPPED) and not matches(name, config.digital):
            raise MappingError(
                f"Layer {name} is a {type(module).__name__}, which cannot be mapped; "
                f"keep it digital with crossbar.digital: ['{name}']."
            )


def check_finite(name: str, weight: Tensor) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        MappingError: some are.
    """
    if not (weight.is_meta or bool(weight.detach().isfinite().all())):
        raise MappingError(f"Layer {name} has weights that are NaN or infinite; train the network again.")


def usable(layer: nn.Module) -> bool:
    """Return whether a layer of torch has a weight."""
    return isinstance(layer, MappedLayer) and layer.weight.numel() > 0


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(field: str, patterns: Iterable[str], names: list[str]) -> None:
    """Refuse a pattern of the crossbar that matches no name.

    Raises:
        MappingError: there is one.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise MappingError(f"crossbar.{field}: '{pattern}' matches no layer; known: {', '.join(names)}.")


def nothing_to_map(model: nn.Module, bypassed: bool = False) -> MappingError:
    """Return the error of a network without a site; `bypassed`: it has layers, but never calls them."""
    name = type(model).__name__
    if bypassed:
        return MappingError(
            f"{name} never calls one of its layers with a matrix; multiply data by their weights in its forward."
        )
    return MappingError(f"{name} has no layer with a matrix; give a model that has at least one.")
