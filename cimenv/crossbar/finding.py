"""Make sites of the products that a forward pass showed, and say what stays digital."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.discovery import Seen, Use
from cimenv.crossbar.interception import unreadable
from cimenv.crossbar.names import UNMAPPED, Named, layer_names, names_of
from cimenv.crossbar.operations import Convolution, MappedLayer
from cimenv.crossbar.report import Unmapped
from cimenv.crossbar.sites import Site, SiteType
from cimenv.crossbar.storage import overlapping
from cimenv.crossbar.written_out import stays_fused

NAMED = "named by crossbar.digital"
UNUSED = "never multiplied by data"


class SitesOfUses:
    """Makes sites of the uses of stored weights that a forward pass showed."""

    def __init__(self, model: nn.Module, config: CrossbarConfig, seen: Seen, layers: list[str]) -> None:
        self.model, self.config, self.seen, self.layers = model, config, seen, layers
        self.notes: list[str] = []
        self.names, self.digital = layer_names(model), Named(model, config.digital)
        self.used: dict[str, dict[tuple[object, ...], list[Use]]] = {}  # by parameter, by part of it
        for use in seen.uses:
            parts = self.used.setdefault(use.parameter, {})
            parts.setdefault((use.size, use.stride, use.offset, use.derived), []).append(use)

    def outcome(self) -> tuple[tuple[Site, ...], list[Unmapped], tuple[str, ...]]:
        """Return sites in call order, digital parts and notes.

        Raises:
            MappingError: there is no site, or an analog array cannot do what the network asks of one.
        """
        self.digital.check("digital")
        sites = [
            site
            for parameter, parts in self.used.items()
            if not self.digital.parameter(parameter)
            for site in self._of_parameter(self.names[parameter], parameter, parts)
        ]
        digital = list(self._digital())
        if not sites:
            raise nothing_to_map(self.model, bool(self.layers) and not digital)
        first = {
            (use.parameter, use.size, use.stride, use.offset): k for k, use in reversed([*enumerate(self.seen.uses)])
        }
        sites.sort(key=lambda pair: first[pair[1]])
        return tuple(site for site, _ in sites), digital, tuple(self.notes)

    def _digital(self) -> Iterator[Unmapped]:
        """Yield what patterns keep digital, also of what other images may use, and what a crossbar cannot do."""
        for parameter, held in self.model.named_parameters():
            macs, reason = self.seen.others.get(parameter, (0, ""))
            if parameter in self.used:
                macs, reason = sum(use.macs for uses in self.used[parameter].values() for use in uses), ""
            if held.dim() > 1 and self.digital.parameter(parameter):
                reason = NAMED
            if reason:
                yield Unmapped(self.names[parameter], held.numel(), macs, reason)

    def _of_parameter(
        self, name: str, parameter: str, parts: dict[tuple[object, ...], list[Use]]
    ) -> list[tuple[Site, tuple[str, tuple[int, ...], tuple[int, ...], int]]]:
        held = self.model.get_parameter(parameter)
        check_finite(name, held)
        if note := tied(self.model, parameter, held):
            self.notes.append(note)
        uses = [group for group in parts.values() if int(torch.Size(group[0].size).numel()) == held.numel()]
        chosen = [min(uses, key=lambda group: group[0].derived)] if uses else list(parts.values())
        if overlapping([(use.offset, use.size, use.stride) for use, *_ in chosen]):
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


def sites_of_layers(
    model: nn.Module, config: CrossbarConfig, layers: Mapping[str, nn.Module]
) -> tuple[tuple[Site, ...], list[Unmapped], tuple[str, ...]]:
    """Return the sites of layers whose use was not seen, digital parts and notes.

    Raises:
        MappingError: there is no site.
    """
    named = Named(model, config.digital)
    named.check("digital")
    refuse_unmapped(named)
    sites: dict[Tensor, Site] = {}
    digital = []
    for name, layer in layers.items():
        if not isinstance(layer, MappedLayer) or not usable(layer) or layer.weight in sites:
            continue
        site = _site_of_layer(name, layer)
        if named.parameter(site.parameter):
            digital.append(Unmapped(name, layer.weight.numel(), 0, NAMED))
        else:
            check_finite(name, layer.weight)
            sites[layer.weight] = site
    if not sites:
        raise nothing_to_map(model)
    notes = (tied(model, site.parameter, weight) for weight, site in sites.items())
    return tuple(sites.values()), digital, tuple(note for note in notes if note)


def _site_of_layer(name: str, layer: MappedLayer) -> Site:
    """Return the site of a layer of torch whose use was not seen."""
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


def tied(model: nn.Module, parameter: str, held: Tensor) -> str | None:
    """Return the note that a parameter has other names, or None where it has not."""
    others = [other for other in names_of(model, held) if other != parameter]
    return f"{parameter} is also {', '.join(others)}: one array serves all." if others else None


def unused_parameters(
    model: nn.Module, sites: Sequence[Site], digital: Sequence[Unmapped], by_constants: Container[str] = ()
) -> list[Unmapped]:
    """Return the parameters that are neither mapped nor named as digital, by module and reason.

    Args:
        model: the network.
        sites: that are mapped.
        digital: parts that are known to stay digital.
        by_constants: parameters in products without data.
    """
    mapped = {site.parameter for site in sites}
    known = {part.name for part in digital}
    names, rest = layer_names(model), []
    for parameter, held in model.named_parameters():
        owner = model.get_submodule(parameter.rpartition(".")[0])
        if mapped & set(names_of(model, held)) or names[parameter] in known:
            continue
        if parameter.endswith("bias"):
            reason = "biases are added digitally"
        elif isinstance(owner, nn.Embedding | nn.EmbeddingBag):
            reason = "embeddings are looked up"
        elif parameter in by_constants:
            reason = "multiplied by constants alone"
        elif isinstance(owner, MappedLayer) and held is owner.weight:
            reason = UNUSED
        else:
            reason = "not multiplied by as matrices"
        rest.append(Unmapped(parameter, held.numel(), 0, reason))
    return rest


def refuse_unmapped(digital: Named) -> None:
    """Refuse layers of kinds that cannot be mapped, unless they are kept digital.

    Raises:
        MappingError: there is one.
    """
    for module, (name, *_) in digital.modules.items():
        if (isinstance(module, UNMAPPED) or stays_fused(module)) and not digital.module(module):
            form = " with add_bias_kv or add_zero_attn" if stays_fused(module) else ""
            raise MappingError(
                f"Layer {name} is a {type(module).__name__}{form}, which cannot be mapped; "
                f"keep it digital with crossbar.digital: ['{name}']."
            )


def refuse_unseen(model: nn.Module, sites: Sequence[Site], rest: Sequence[Unmapped]) -> None:
    """Refuse what the one image that was seen does not use, where other images may.

    Raises:
        MappingError: there is such a layer, or such a part of a parameter.
    """
    unseen = [part.name.removesuffix(".weight") for part in rest if part.reason == UNUSED]
    for parameter in dict.fromkeys(site.parameter for site in sites):
        mapped = sum(site.weights for site in sites if site.parameter == parameter)
        if mapped < model.get_parameter(parameter).numel():
            unseen.append(parameter)
    if unseen:
        raise MappingError(
            f"Layer {unseen[0]} is not used, or not all of it, for an empty image, but may be for others, since the "
            f"network goes by values; keep it digital with crossbar.digital: {unseen}, or use it for every image."
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


def nothing_to_map(model: nn.Module, bypassed: bool = False) -> MappingError:
    """Return the error of a network without a site; `bypassed`: it has layers, but never calls them."""
    name = type(model).__name__
    if bypassed:
        return MappingError(
            f"{name} never calls one of its layers with a matrix; multiply data by their weights in its forward."
        )
    return MappingError(f"{name} has no layer with a matrix; give a model that has at least one.")
