"""Run a network as it is, with other weights at its sites: nothing of it is changed, and threads do not meet.

Every function of torch that a forward pass calls is seen. Where a site's stored weight takes part in its product, the
chip's weight (or the analog array) takes its place; any other function that is given the weight gets the chip's
instead, as under `torch.func.functional_call`. So a layer's own forward, its hooks, and matrices used without a layer
count as the user wrote them.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from cimenv.core.errors import MappingError
from cimenv.crossbar.eager import eagerly
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.operations import Operation
from cimenv.crossbar.products import READERS, Product, products
from cimenv.crossbar.sites import Site, parameter_of, whole
from cimenv.crossbar.storage import Memory, View, storage_of, tensors_in, view_of
from cimenv.crossbar.weight_uses import AS, LIKE, LOOKUPS, META, VIEWS, changes, name_of


@dataclass(frozen=True)
class SiteCall:
    """One product at a site.

    Attributes:
        site: the site's name.
        product: its inputs and operands.
        weight: what the site computes with; None for the network's own.
        derived: whether a function of the weight, and not the weight itself, is multiplied.
        changed: whether the network changed the weight in place before.
    """

    site: str
    product: Product
    weight: ProgrammedWeight | None
    derived: bool
    changed: bool = False

    @property
    def x(self) -> Tensor:
        """Return the inputs, `[..., in]` or `[n, in, *size]`."""
        return self.product.x

    @property
    def operation(self) -> Operation:
        """Return how inputs meet the weight."""
        return self.product.operation

    def outputs(self, generator: torch.Generator | None = None) -> Tensor:
        """Return the product with the site's weight, `[..., out]` or `[n, out, *size]`."""
        weight = self.product.weight if self.weight is None or self.derived else self.weight
        return self.product.outputs(weight, generator)


AtSite = Callable[[SiteCall], Tensor]


class StoredWeights:
    """Finds which stored weight a tensor is, or is a view of.

    Args:
        model: the network.
        sites: whose weights.
        origins: tensors that the network was copied from, by name of the parameter: closures may still use them.
    """

    def __init__(self, model: nn.Module, sites: Iterable[Site], origins: Mapping[str, Tensor] | None = None) -> None:
        self.views: dict[View, str] = {}
        self.own: dict[str, Tensor] = {}
        self.sites = {site.name: site for site in sites}
        self.memory: Memory[tuple[Tensor, list[Site]]] = Memory()
        for site in self.sites.values():
            own = self.own[site.name] = parameter_of(model, site)
            for tensor in (own, (origins or {}).get(site.parameter)):
                if tensor is not None:
                    if tensor.stride() == own.stride():
                        self.views[view_of(site.matrix(tensor))] = site.name
                    elif site.covers(own):  # of an origin with gaps in its memory
                        self.views[view_of(site.laid_out(tensor))] = site.name
                    here = self.memory.of(tensor)
                    if here is None:
                        self.memory.add(tensor, (tensor, [site]))
                    else:
                        here[1].append(site)

    def sites_in(self, tensor: Tensor) -> list[Site]:
        """Return the sites whose parameter the tensor is, or is a view of."""
        stored = self.memory.of(tensor)
        return stored[1] if stored else []

    def with_weights(self, tensor: Tensor, weights: Mapping[Site, Tensor]) -> Tensor:
        """Return a parameter, or a view of it, with other weights at some of its sites."""
        base, sites = self.memory.of(tensor) or (tensor, [])
        own = self.own[sites[0].name]
        laid = torch.empty_strided(own.shape, own.stride(), dtype=own.dtype, device=own.device).copy_(own)
        for site, weight in weights.items():
            site.matrix(laid).copy_(weight)
        if base.stride() != own.stride():  # of the network that this one was copied from
            laid = torch.empty_strided(base.shape, base.stride(), dtype=own.dtype, device=own.device).copy_(laid)
        return laid.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset() - base.storage_offset())


class Intercepted(TorchFunctionMode):
    """Runs everything inside with other weights at sites, and hands over every product of a site.

    Args:
        stored: the sites' weights.
        weights: what sites compute with, by name; those left out compute with their own.
        at_site: from a product at a site, its outputs.
    """

    def __init__(
        self,
        stored: StoredWeights,
        weights: Mapping[str, ProgrammedWeight] | None = None,
        at_site: AtSite | None = None,
    ) -> None:
        super().__init__()
        self.stored, self.weights = stored, dict(weights or {})
        self.at_site: AtSite = at_site or SiteCall.outputs
        self.storages = set(stored.memory.parts)  # those of weights and of functions of them
        self.derived: dict[int, tuple[list[weakref.ref[Tensor]], str]] = {}  # functions of weights, by storage
        self.changed: set[str] = set()  # sites whose weight the network has changed in place
        self.learning = torch.is_grad_enabled()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        met = self._met(args)
        if named:
            met += self._met(named.values())
        if not met:
            return func(*args, **named)
        if func in READERS:
            output = self._at_site(func, args, named)
            if output is not None:
                return output
        return self._other(func, args, named, met)

    def _met(self, values: Iterable[Any]) -> list[Tensor]:
        """Return the weights among the arguments of a function call, and functions of them."""
        met: list[Tensor] = []
        for value in values:
            if isinstance(value, Tensor):
                if storage_of(value) in self.storages and self._known(value):
                    met.append(value)
            elif isinstance(value, list | tuple) and value:
                met += self._met(value)
        return met

    def _known(self, tensor: Tensor) -> bool:
        return tensor in self.stored.memory or self._derived_from(tensor) is not None

    def _derived_from(self, tensor: Tensor) -> str | None:
        """Return the site of whose weight a tensor is a function, or a view of one."""
        held, name = self.derived.get(storage_of(tensor), ([], None))
        return name if any(made() is not None for made in held) else None

    def _at_site(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
        for product in products(func, args, named):
            name, derived = self.stored.views.get(view_of(product.weight)), False
            if name is None:
                name, derived = self._derived_site(product.weight), True
            if name is None or _reinterpreted(product.weight, self.stored.own[name]):
                continue
            beside = (product.x, product.bias)
            if any(isinstance(tensor, Tensor) and self.stored.sites_in(tensor) for tensor in beside):
                return None  # a product of two weights: both are the chip's
            if self.learning and _runs_again():
                raise MappingError(
                    f"Layer {name} lies within torch.utils.checkpoint, which would run it again without the chip's "
                    "weights to learn; switch checkpointing off."
                )
            call = SiteCall(name, product, self.weights.get(name), derived, name in self.changed)
            return product.from_outputs(self.at_site(call))
        return None

    def _derived_site(self, weight: Tensor) -> str | None:
        """Return the site that multiplies by this function of its weight; not by data that met a weight."""
        name = self._derived_from(weight)
        site = self.stored.sites.get(name or "")
        return name if site is not None and site.derived and tuple(weight.shape) == site.weight_shape else None

    def _other(
        self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any], met: Sequence[Tensor]
    ) -> Any:
        """Call a function that is given a weight, but not in its product; what it gives is a function of the weight."""
        name = name_of(func)
        if name in LIKE or name in META or (name in AS and not any(args[0] is tensor for tensor in met)):
            return func(*args, **named)  # of the weight it takes the shape and the type alone
        if self.weights and changes(func) and args[0] is met[0] and self.stored.sites_in(met[0]):
            return self._changed(func, args, named, met[0])
        if name in VIEWS:
            result = func(*args, **named)
            if all(tensor in self.stored.memory for tensor in tensors_in((result,))):
                return result
        if func in LOOKUPS and self._analog(met):  # of rows: a digital copy serves them
            return func(*args, **named)
        result = func(*_mapped(args, self._substitute), **{k: _mapped(v, self._substitute) for k, v in named.items()})
        site = self._name(met[0])
        for tensor in tensors_in((result,)):
            held, _ = self.derived.get(storage_of(tensor), ([], site))
            alive = [made for made in held if made() is not None]
            self.derived[storage_of(tensor)] = ([*alive, weakref.ref(tensor)], site)
            self.storages.add(storage_of(tensor))
        return result

    def _analog(self, met: Iterable[Tensor]) -> bool:
        """Return whether a weight among tensors lies on an analog array."""
        sites = [site.name for tensor in met for site in self.stored.sites_in(tensor)]
        return any(isinstance(self.weights.get(name), AnalogWeight) for name in sites)

    def _changed(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any], weight: Tensor) -> Any:
        """Let a function change the chip's weight in place of the stored one.

        Raises:
            MappingError: it changes a part of the weight alone.
        """
        sites = self.stored.sites_in(weight)
        if name_of(func) == "__setitem__" or not all(whole(self.stored.own[site.name], weight) for site in sites):
            raise MappingError(
                f"Layer {sites[0].name} changes a part of its weight in place when it runs; "
                f"keep it digital with crossbar.digital: ['{sites[0].name}'], or change a copy."
            )
        if name_of(func) == "__set__":  # of `weight.data = ...`
            changed = args[1]
        else:
            changed = self._substitute(weight).clone()
            func(changed, *_mapped(args[1:], self._substitute), **named)
        for site in sites:
            self.weights[site.name] = site.matrix(changed)
            self.changed.add(site.name)
        return weight

    def _name(self, tensor: Tensor) -> str:
        sites = self.stored.sites_in(tensor)
        return sites[0].name if sites else str(self._derived_from(tensor))

    def _substitute(self, tensor: Any) -> Any:
        """Return the chip's values in the place of a stored weight or of a view of it.

        Raises:
            MappingError: the weight is on an analog array, which only its own product can read.
        """
        if not isinstance(tensor, Tensor) or not (sites := self.stored.sites_in(tensor)):
            return tensor
        chip = {site: weight for site in sites if (weight := self.weights.get(site.name)) is not None}
        if not chip:
            return tensor
        own, plain = self.stored.own[sites[0].name], {}
        if _reinterpreted(tensor, own):
            raise unreadable(sites[0].name)
        for site, weight in chip.items():
            if isinstance(weight, AnalogWeight):
                raise unreadable(site.name)
            if site.covers(own) and tensor.shape == own.shape and tensor.stride() == own.stride():
                return site.laid_out(weight)
            plain[site] = weight
        return self.stored.with_weights(tensor, plain)


def unreadable(name: str) -> MappingError:
    """Return the error of a weight on analog arrays that is used otherwise than in its own product."""
    return MappingError(
        f"Layer {name} computes with its weight in a way of its own, which cannot be read from an array; "
        f"keep it digital with crossbar.digital: ['{name}'], or set crossbar.analog to false."
    )


@contextmanager
def programmed(
    model: nn.Module,
    weights: Mapping[str, ProgrammedWeight],
    sites: Sequence[Site] | None = None,
    origins: Mapping[str, Tensor] | None = None,
    at_site: AtSite | None = None,
) -> Iterator[nn.Module]:
    """Run `model` with other weights at its sites, in this thread, while the context is open.

    The model itself is not changed: other threads meet the nominal weights. Gradients flow into `weights`.

    Args:
        model: the network.
        weights: by site name.
        sites: of the network's mapping; needed where weights are used transposed or in parts.
        origins: see `StoredWeights`.
        at_site: from a product at a site, its outputs: blocks, for example.
    """
    named = [site for site in sites if site.name in weights] if sites is not None else _sites(model, weights)
    with eagerly(), Intercepted(StoredWeights(model, named, origins), weights, at_site):
        yield model


@contextmanager
def observed(
    model: nn.Module, sites: Sequence[Site], at_site: AtSite, origins: Mapping[str, Tensor] | None = None
) -> Iterator[nn.Module]:
    """Run `model` with `at_site` giving the outputs of every product at a site, in this thread.

    Inside `programmed`, the products are those of the chip.
    """
    with eagerly(), Intercepted(StoredWeights(model, sites, origins), None, at_site):
        yield model


def _sites(model: nn.Module, weights: Mapping[str, ProgrammedWeight]) -> list[Site]:
    """Return sites for weights whose mapping is not given: each is a whole parameter, in whichever direction."""
    sites = []
    for name, weight in weights.items():
        own = parameter_of(model, name)
        turned = own.dim() == 2 and tuple(weight.shape) != tuple(own.shape)
        shape = tuple(own.mT.shape) if turned else tuple(own.shape)
        if tuple(weight.shape) != shape:
            raise MappingError(
                f"Layer {name} has a weight of shape {tuple(own.shape)}; got one of {tuple(weight.shape)}."
            )
        sites.append(Site.of_parameter(name, own, turned))
    return sites


def _runs_again() -> bool:
    """Return whether what is running now will run again for its gradient, when no one watches."""
    frame: FrameType | None = sys._getframe()
    saving = checkpoint.__file__
    while frame is not None:
        if frame.f_code.co_filename == saving:
            return True
        frame = frame.f_back
    return False


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)(_mapped(part, change) for part in value)
    return change(value)


def _reinterpreted(tensor: Tensor, own: Tensor) -> bool:
    """Return whether a view reads other numbers from a weight's memory than the weight's own."""
    return tensor.dtype != own.dtype or tensor.is_conj() or tensor.is_neg()
