"""Find every product of a network with a stored weight, by watching one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cimenv.crossbar.eager import eagerly
from cimenv.crossbar.operations import Convolution, Dense, positions
from cimenv.crossbar.products import READERS, Product, products
from cimenv.crossbar.storage import Memory, storage_of, tensors_in, view_of
from cimenv.crossbar.weight_uses import AS, changes, name_of

Macs = Callable[[Tensor, Tensor, Tensor], int]  # of one image, from the weight, the data and the result


def _rows(weight: Tensor, data: Tensor, made: Tensor) -> int:
    """Return the MACs where every result sums over the inputs of its row of the weight."""
    del data
    return made.numel() * weight[0].numel()


def _columns(weight: Tensor, data: Tensor, made: Tensor) -> int:
    """Return the MACs where every result sums over the last but one dimension of the weight."""
    del data
    return made.numel() * (weight.shape[-2] if weight.dim() > 1 else len(weight))


def _spread(weight: Tensor, data: Tensor, made: Tensor) -> int:
    """Return the MACs where every input meets all weights of its channel."""
    del made
    return data.numel() * weight[0].numel()


def _whole(weight: Tensor, data: Tensor, made: Tensor) -> int:
    """Return the MACs where every vector meets the whole weight once."""
    del made
    return weight.numel() * (data.numel() // max(data.shape[-1], 1))


OTHER_PRODUCTS: dict[Callable[..., Any], tuple[str, Macs]] = {
    torch.bmm: ("a batch of products", _columns),
    torch.Tensor.bmm: ("a batch of products", _columns),
    torch.baddbmm: ("a batch of products", _columns),
    torch.tensordot: ("tensordot", _columns),
    torch.mv: ("a product with a vector", _rows),
    torch.Tensor.mv: ("a product with a vector", _rows),
    torch.addmv: ("a product with a vector", _rows),
    torch.inner: ("an inner product", _rows),
    torch.chain_matmul: ("a chain of products", _columns),
    torch.linalg.multi_dot: ("a chain of products", _columns),
    torch.rnn_tanh: ("a fused recurrent layer", _whole),
    torch.rnn_relu: ("a fused recurrent layer", _whole),
    torch.lstm: ("a fused recurrent layer", _whole),
    torch.gru: ("a fused recurrent layer", _whole),
    torch.conv3d: ("a 3-d convolution", _rows),
    torch.conv_transpose1d: ("a transposed convolution", _spread),
    torch.conv_transpose2d: ("a transposed convolution", _spread),
    torch.conv_transpose3d: ("a transposed convolution", _spread),
    F.bilinear: ("a bilinear product", _rows),
    torch.lstm_cell: ("a recurrent cell", _whole),
    torch.gru_cell: ("a recurrent cell", _whole),
    torch.rnn_tanh_cell: ("a recurrent cell", _whole),
    torch.rnn_relu_cell: ("a recurrent cell", _whole),
    F.multi_head_attention_forward: ("a fused attention", _whole),
}
OPERATORS = torch._ops.OpOverload | torch._ops.OpOverloadPacket  # called directly, torch's or a user's own
CHOICES = {"__getitem__", "index_select", "gather", "take_along_dim"}
UNREAD = ("its product is of a form that is not mapped", _columns)


@dataclass(frozen=True)
class Use:
    """One product of data with a stored weight.

    Attributes:
        parameter: qualified name of the parameter.
        size, stride, offset: of the weight `[out, in/groups, *kernel]` in the parameter.
        operation: how inputs meet it.
        positions: products of a vector with the matrix, for one image.
        bias: whether something is added to every output.
        derived: whether a function of the parameter is multiplied, and not the parameter.
    """

    parameter: str
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    operation: Dense | Convolution
    positions: int
    bias: bool
    derived: bool

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates per image."""
        return int(torch.Size(self.size).numel()) * self.positions


@dataclass
class Seen:
    """What a forward pass showed.

    Attributes:
        uses: products with a stored weight that a crossbar can do, in call order.
        others: multiply-accumulates and the reason, by parameter, of products that it cannot do.
        between_activations: multiply-accumulates of products of two activations.
        with_constants: multiply-accumulates of products with tensors that are no parameters.
        by_constants: parameters in products without data.
        by_values: whether the image had to hold numbers, so that other images may go another way.
        output: what the network gave.
    """

    uses: list[Use] = field(default_factory=list)
    others: dict[str, tuple[int, str]] = field(default_factory=dict)
    between_activations: int = 0
    with_constants: int = 0
    by_constants: set[str] = field(default_factory=set)
    by_values: bool = False
    output: Any = None


class Discovery(TorchFunctionMode):
    """Records the products inside; data is what follows from the inputs, anything else is part of the network.

    Args:
        parameters: by name; several names may share a tensor.
        inputs: of the network.
        origins: tensors that the network was copied from, by name of the parameter.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], inputs: Iterable[Tensor], origins: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.seen = Seen()
        self.stored: Memory[tuple[str, Tensor]] = Memory()
        for name, tensor in (*parameters.items(), *(origins or {}).items()):
            if tensor not in self.stored:  # of a shared parameter the first name counts
                self.stored.add(tensor, (name, tensor))
        self.parameters = dict(parameters)
        self.data: list[Tensor] = []  # kept, so that nothing else comes to lie where they do
        self.ids: set[int] = set()  # of data, and of the memory that they show
        self._add(inputs)
        self.derived: dict[int, tuple[Tensor, frozenset[str]]] = {}  # by storage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        given = list(tensors_in((*args, *named.values())))
        of_value = given[:1] if name_of(func) in AS else given  # the others give a shape or a type
        from_data = [tensor for tensor in of_value if self._is_data(tensor)]
        result = func(*args, **named)
        made = list(tensors_in((result,)))
        if from_data:
            self._record(func, args, named, given, made)
            self._note_chosen(func, given, made)
            self._add(given[:1] if changes(func) else made)
        else:
            self._note_constants(func, args, named)
            origins = frozenset().union(*(self._origins(tensor) for tensor in of_value))
            for tensor in made:
                if origins and tensor not in self.stored:
                    self.derived[storage_of(tensor)] = (tensor, origins)
        return result

    def _note_constants(self, func: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> None:
        weights = (self.stored.of(product.weight) for product in products(func, args, named))
        self.seen.by_constants.update(held[0] for held in weights if held)

    def _note_chosen(self, func: Callable[..., Any], given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        """Note matrices that data choose from a stack of them: what they are multiplied by meets a weight."""
        if name_of(func) in CHOICES and given[0].dim() > 2 and not self._is_data(given[0]):
            for tensor in made:
                self.derived[storage_of(tensor)] = (tensor, self._origins(given[0]))

    def _add(self, tensors: Iterable[Tensor]) -> None:
        """Note that tensors are data, and whatever else shows their memory; of a stored weight, this tensor alone."""
        for tensor in tensors:
            self.data.append(tensor)
            self.ids.add(id(tensor) if tensor in self.stored else storage_of(tensor))

    def _is_data(self, tensor: Tensor) -> bool:
        return (id(tensor) if tensor in self.stored else storage_of(tensor)) in self.ids

    def _origins(self, tensor: Tensor) -> frozenset[str]:
        held = self.stored.of(tensor)
        if held is not None:
            return frozenset((held[0],))
        key = storage_of(tensor)
        return self.derived[key][1] if key in self.derived else frozenset()

    def _record(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        named: Mapping[str, Any],
        given: Sequence[Tensor],
        made: Sequence[Tensor],
    ) -> None:
        if made and func not in READERS and _may_multiply(func):
            self._record_other(func, given, made)
        if func not in READERS:
            return
        for product in products(func, args, named):
            use = self._use(product, made[0])
            if use is not None:
                self.seen.uses.append(use)
                return
        first = args[0] if args and isinstance(args[0], Tensor) and args[0].dim() else None
        macs = made[0].numel() * (first.shape[-1] if first is not None else 1)
        met = any(self._origins(tensor) for tensor in given[:2])
        if not met and all(self._is_data(tensor) for tensor in given[:2]):
            self.seen.between_activations += macs
            return
        if not met:
            self.seen.with_constants += macs
            return
        self._record_other(func, given, made)

    def _use(self, product: Product, result: Tensor) -> Use | None:
        origins = self._origins(product.weight)
        if not origins or self._is_data(product.weight):
            return None
        parameter = stored[0] if (stored := self.stored.of(product.weight)) else self._among(origins, product.weight)
        if parameter is None:
            return None
        held = stored[1] if stored else self.parameters[parameter]
        if product.weight.dtype != held.dtype or product.weight.is_conj() or product.weight.is_neg():
            return None
        own = self.parameters[parameter]
        if held.stride() == own.stride():
            shown = product.weight if stored else _oriented(held, product.weight)
            start = shown.storage_offset() - held.storage_offset()
        elif view_of(product.weight) in (view_of(held), view_of(held.mT)):  # of an origin with gaps in its memory
            shown, start = own if view_of(product.weight) == view_of(held) else own.mT, 0
        else:
            return None
        return Use(
            parameter,
            tuple(product.weight.shape),
            tuple(shown.stride()),
            int(start),
            product.operation,
            positions(product.operation, product.to_outputs(result)),
            product.bias is not None,
            stored is None,
        )

    def _among(self, origins: frozenset[str], weight: Tensor) -> str | None:
        """Return the one parameter of the size of a derived weight, or None where it is made of others."""
        fitting = [name for name in origins if self.parameters[name].numel() == weight.numel()]
        oriented = [name for name in fitting if _fits(self.parameters[name], weight)]
        return oriented[0] if len(oriented) == 1 else None

    def _record_other(self, func: Callable[..., Any], given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        reason, macs_of = OTHER_PRODUCTS.get(func, UNREAD)
        data = next(tensor for tensor in given if self._is_data(tensor))
        for tensor in given:
            for name in self._origins(tensor) if tensor.dim() > 1 else ():
                macs, _ = self.seen.others.get(name, (0, ""))
                self.seen.others[name] = (macs + macs_of(tensor, data, made[0]), reason)


def _may_multiply(func: Callable[..., Any]) -> bool:
    """Return whether a function is a product of matrices, by its name too: there are grouped, scaled, integer ones."""
    return func in OTHER_PRODUCTS or isinstance(func, OPERATORS) or name_of(func).endswith(("mm", "mv", "dot"))


def discovered(model: nn.Module, image: Tensor, origins: Mapping[str, Tensor] | None = None) -> Seen:
    """Run `model` on one image and return the products it made; the model is not changed.

    Args:
        model: in evaluation mode.
        image: `[1, ...]`, perhaps on the meta device with the model.
        origins: tensors that the model was copied from, by name of the parameter.
    """
    parameters = {name: p for name, p in model.named_parameters(remove_duplicate=False) if p.dim() > 1}
    with torch.no_grad(), eagerly(), Discovery(parameters, [image], origins) as watching:
        output = model(image)
    watching.seen.output = output
    return watching.seen


def _fits(parameter: Tensor, weight: Tensor) -> bool:
    return tuple(weight.shape) in (tuple(parameter.shape), tuple(parameter.mT.shape))


def _oriented(parameter: Tensor, weight: Tensor) -> Tensor:
    return parameter if weight.shape == parameter.shape else parameter.mT
