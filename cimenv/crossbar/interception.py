"""Run a network as it is, with other weights at its sites: nothing of it is changed, and threads do not meet.

Every function of torch that a forward pass calls is seen. Where a site's stored weight takes part in its product, the
chip's weight (or the analog array) takes its place; any other function that is given the weight gets the chip's
instead, as under `torch.func.functional_call`. So a layer's own forward, its hooks, and matrices used without a layer
count as the user wrote them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cimenv.core.errors import MappingError
from cimenv.crossbar.layers import AnalogWeight, ProgrammedWeight
from cimenv.crossbar.operations import Operation
from cimenv.crossbar.products import READERS, Product, products
from cimenv.crossbar.sites import Site, parameter_of, whole

LOOKUPS = {F.embedding, F.embedding_bag, torch.embedding}  # of rows: digital, also where the weight is tied
T = TypeVar("T")
View = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class SiteCall:
    """One product at a site.

    Attributes:
        site: the site's name.
        product: its inputs and operands.
        weight: what the site computes with; None for the network's own.
        derived: whether a function of the weight, and not the weight itself, is multiplied.
    """

    site: str
    product: Product
    weight: ProgrammedWeight | None
    derived: bool

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


class Memory(Generic[T]):
    """What is known of tensors, found by a tensor that is one of them or a view of one."""

    def __init__(self) -> None:
        self.parts: dict[int, list[tuple[range, T]]] = {}  # by storage, which several tensors may share

    def add(self, tensor: Tensor, known: T) -> None:
        """Note something of a tensor."""
        start = tensor.storage_offset()
        spread = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        part = range(start, start + spread + 1 if tensor.numel() else start)
        self.parts.setdefault(storage_of(tensor), []).append((part, known))

    def of(self, tensor: Tensor) -> T | None:
        """Return what is known of the tensor in whose memory this one begins."""
        parts = self.parts.get(storage_of(tensor))
        if parts is None:
            return None
        offset = tensor.storage_offset()
        return next((known for part, known in parts if offset in part), None)

    def __contains__(self, tensor: Tensor) -> bool:
        return self.of(tensor) is not None


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
        self.memory: Memory[list[Site]] = Memory()
        for site in sites:
            own = self.own[site.name] = parameter_of(model, site)
            for tensor in (own, (origins or {}).get(site.parameter)):
                if tensor is not None:
                    self.views[view_of(site.matrix(tensor))] = site.name
                    here = self.memory.of(tensor)
                    if here is None:
                        self.memory.add(tensor, [site])
                    else:
                        here.append(site)

    def sites_in(self, tensor: Tensor) -> list[Site]:
        """Return the sites whose parameter the tensor is, or is a view of."""
        return self.memory.of(tensor) or []


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
        self.derived: dict[int, tuple[weakref.ref[Tensor], str]] = {}  # functions of weights, by storage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        met = self._met(args)
        if named:
            met += self._met(named.values())
        if not met or func in LOOKUPS:
            return func(*args, **named)
        if func in READERS:
            found = self._at_site(func, args, named)
            if found is not None:
                return found
        return self._other(func, args, named, met)

    def _met(self, values: Iterable[Any]) -> list[Tensor]:
        """Return the weights among arguments, and functions of them: asked of every function that is called."""
        met: list[Tensor] = []
        for value in values:
            if isinstance(value, Tensor):
                if value.untyped_storage()._cdata in self.storages and self._known(value):
                    met.append(value)
            elif isinstance(value, list | tuple) and value:
                met += self._met(value)
        return met

    def _known(self, tensor: Tensor) -> bool:
        return tensor in self.stored.memory or self._derived_from(tensor) is not None

    def _derived_from(self, tensor: Tensor) -> str | None:
        """Return the site of whose weight a tensor is a function, or a view of one."""
        made, name = self.derived.get(storage_of(tensor), (None, None))
        return name if made is not None and made() is not None else None

    def _at_site(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
        for product in products(func, args, named):
            name = self.stored.views.get(view_of(product.weight))
            derived = name is None
            if name is None:
                name = self._derived_from(product.weight)
            if name is not None:
                call = SiteCall(name, product, self.weights.get(name), derived)
                return product.from_outputs(self.at_site(call))
        return None

    def _other(
        self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any], met: Sequence[Tensor]
    ) -> Any:
        """Call a function that is given a weight, but not in its product; what it gives is a function of the weight."""
        if _changes(func) and any(met[0] is argument for argument in args[:1]) and self.stored.sites_in(met[0]):
            return self._changed(func, args, named, met[0])
        weighted = any(site.name in self.weights for tensor in met for site in self.stored.sites_in(tensor))
        if weighted and _changes(func):  # calling it twice would change its first argument twice
            return func(*_mapped(args, self._substitute), **{k: _mapped(v, self._substitute) for k, v in named.items()})
        result = func(*args, **named)
        made = list(tensors_in((result,)))
        if all(tensor in self.stored.memory for tensor in made):  # a view, or no tensor at all
            return result
        if weighted:
            result = func(
                *_mapped(args, self._substitute), **{k: _mapped(v, self._substitute) for k, v in named.items()}
            )
            made = list(tensors_in((result,)))
        name = self._name(met[0])
        for tensor in made:
            self.derived[storage_of(tensor)] = (weakref.ref(tensor), name)
            self.storages.add(storage_of(tensor))
        return result

    def _changed(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any], weight: Tensor) -> Any:
        """Let a function change the chip's weight in place of the stored one."""
        changed = self._substitute(weight).clone()
        if getattr(func, "__name__", "") == "__set__":  # of `weight.data = ...`
            changed = args[1]
        else:
            func(changed, *args[1:], **named)
        for site in self.stored.sites_in(weight):
            if whole(self.stored.own[site.name], weight):
                self.weights[site.name] = site.matrix(changed)
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
        own = self.stored.own[sites[0].name]
        for site, weight in chip.items():
            if isinstance(weight, AnalogWeight):
                raise unreadable(site.name)
            if site.covers(own) and tensor.shape == own.shape and tensor.stride() == own.stride():
                return site.laid_out(weight)
        laid = torch.empty_strided(own.shape, own.stride(), dtype=own.dtype, device=own.device).copy_(own)
        for site, weight in chip.items():
            assert isinstance(weight, Tensor)
            site.matrix(laid).copy_(weight)
        offset = tensor.storage_offset() - own.storage_offset() if tensor is not own else 0
        return laid.as_strided(tensor.shape, tensor.stride(), offset)


def unreadable(name: str) -> MappingError:
    """Return the error of a weight on analog arrays that is used otherwise than in its own product."""
    return MappingError(
        f"Layer {name} computes with its weight in a way of its own, which an analog array cannot do; "
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
    with Intercepted(StoredWeights(model, named, origins), weights, at_site):
        yield model


@contextmanager
def observed(
    model: nn.Module, sites: Sequence[Site], at_site: AtSite, origins: Mapping[str, Tensor] | None = None
) -> Iterator[nn.Module]:
    """Run `model` with `at_site` giving the outputs of every product at a site, in this thread.

    Inside `programmed`, the products are those of the chip.
    """
    with Intercepted(StoredWeights(model, sites, origins), None, at_site):
        yield model


def _sites(model: nn.Module, weights: Mapping[str, ProgrammedWeight]) -> list[Site]:
    """Return sites for weights whose mapping is not given: each is a whole parameter, in whichever direction."""
    found = []
    for name, weight in weights.items():
        own = parameter_of(model, name)
        turned = own.dim() == 2 and tuple(weight.shape) != tuple(own.shape)
        shape = tuple(own.mT.shape) if turned else tuple(own.shape)
        if tuple(weight.shape) != shape:
            raise MappingError(
                f"Layer {name} has a weight of shape {tuple(own.shape)}; got one of {tuple(weight.shape)}."
            )
        found.append(Site.of_parameter(name, own, turned))
    return found


def storage_of(tensor: Tensor) -> int:
    """Return what tells one piece of memory from another, also on the meta device."""
    return int(tensor.untyped_storage()._cdata)


def view_of(tensor: Tensor) -> View:
    """Return which values of which memory a tensor shows, in which order."""
    return storage_of(tensor), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among arguments, also those in lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)(_mapped(part, change) for part in value)
    return change(value)


def _changes(func: Callable[..., Any]) -> bool:
    """Return whether a function changes its first argument in place."""
    name = getattr(func, "__name__", "")
    return (
        name == "__set__"
        or (name.startswith("__i") and name != "__index__")
        or (name.endswith("_") and name[-2:] != "__")
    )
