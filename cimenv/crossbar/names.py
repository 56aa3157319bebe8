"""The names by which a user knows what a network holds, and the parts that patterns of them choose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate

from torch import Tensor, nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.operations import MappedLayer
from cimenv.crossbar.written_out import Attention, Fused, Recurrent, RecurrentMatrix

UNMAPPED = nn.Conv3d | nn.modules.conv._ConvTransposeNd | nn.Bilinear | nn.RNNBase | nn.RNNCellBase
LAYERS = MappedLayer | UNMAPPED | Fused | Recurrent | Attention


class Named:
    """The parts of a network that patterns name.

    A pattern names layers and matrices: as torch calls them, or as the mapping does where it writes a layer out. One
    that names none of these names modules, with everything in them. What shares a parameter shares its fate.

    Args:
        model: the network.
        patterns: with `*` and `?`.
    """

    def __init__(self, model: nn.Module, patterns: Sequence[str]) -> None:
        self.model, self.patterns = model, patterns
        self.modules: dict[nn.Module, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            self.modules.setdefault(module, []).append(name)
        shared: dict[nn.Parameter, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            shared.setdefault(parameter, []).append(name)
        self.shared = {name: names for names in shared.values() for name in names}
        self.known = [names[0] for module, names in self.modules.items() if isinstance(module, LAYERS)]
        matrices = [name for parameter, names in shared.items() if parameter.dim() > 1 for name in names]
        self.known += [name for path in matrices for name in self._names(path)]
        self.known = list(dict.fromkeys(name for name in self.known if name))
        self.near = [pattern for pattern in patterns if any(matches(name, [pattern]) for name in self.known)]
        self.far = [pattern for pattern in patterns if pattern not in self.near]

    def module(self, module: nn.Module) -> bool:
        """Return whether a module is named, or lies in one that is."""
        return any(matches(name, self.near) or self._in_far(name) for name in self.modules[module])

    def parameter(self, path: str) -> bool:
        """Return whether a parameter is named, or its layer, or a module that it lies in."""
        shared = self.shared.get(path, [path])
        return any(self._in_far(one) or any(matches(name, self.near) for name in self._names(one)) for one in shared)

    def check(self, field: str) -> None:
        """Refuse a pattern of the crossbar that names nothing.

        Raises:
            MappingError: there is one.
        """
        modules = [name for names in self.modules.values() for name in names if name]
        for pattern in self.far:
            if not any(matches(name, [pattern]) for name in modules):
                check_patterns(field, [pattern], self.known)

    def _in_far(self, name: str) -> bool:
        return bool(self.far) and any(matches(outer, self.far) for outer in _outward(name))

    def _names(self, path: str) -> list[str]:
        """Return every name of a parameter: its own, its layer's, those of the fused module that it lies in."""
        owner, _, name = path.rpartition(".")
        names = [path, owner] if name == "weight" else [path]
        module, holder = self.model.get_submodule(owner), owner.rpartition(".")[0]
        if isinstance(module, RecurrentMatrix):
            names.append(f"{holder}.{module.source}" if holder else module.source)
        fused = Fused | Recurrent | Attention
        return names + [outer for outer in _outward(owner) if isinstance(self.model.get_submodule(outer), fused)]


def layer_names(model: nn.Module) -> dict[str, str]:
    """Return the site name of every parameter: its layer's where it is the `weight` of one, else its own."""
    names: dict[str, str] = {}
    for parameter, _ in model.named_parameters(remove_duplicate=False):
        owner, _, name = parameter.rpartition(".")
        layer = name == "weight" and (owner or isinstance(model, MappedLayer))
        names[parameter] = owner if layer else parameter
    return names


def names_of(model: nn.Module, held: Tensor) -> list[str]:
    """Return all names of one parameter."""
    return [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is held]


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


def _outward(name: str) -> list[str]:
    """Return a name and those of the modules around it."""
    return list(accumulate(name.split("."), lambda outer, part: f"{outer}.{part}")) if name else []
