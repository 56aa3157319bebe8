"""All registries by the kind of thing that they hold, and the one way to add something of one's own."""

from __future__ import annotations

from typing import Any, TypeVar

from cimenv.compensation.block import BLOCKS
from cimenv.core.errors import ConfigError, brief, known_name
from cimenv.core.registry import Registry
from cimenv.cost.term import COSTS
from cimenv.crossbar.converters import CONVERTERS
from cimenv.crossbar.device import DEVICES
from cimenv.data.registry import DATA_SETS
from cimenv.envs.features.registry import FEATURES
from cimenv.evaluation.metrics import METRICS
from cimenv.evaluation.statistics import STATISTICS
from cimenv.networks.registry import BACKBONES
from cimenv.search.methods import METHODS
from cimenv.training.recipe import RECIPES

Thing = TypeVar("Thing")

REGISTRIES: dict[str, Registry[Any]] = {
    "backbone": BACKBONES,
    "block": BLOCKS,
    "converter": CONVERTERS,
    "cost": COSTS,
    "data": DATA_SETS,
    "device": DEVICES,
    "feature": FEATURES,
    "metric": METRICS,
    "recipe": RECIPES,
    "search": METHODS,
    "statistic": STATISTICS,
}


def register(thing: Thing, kind: str | None = None, name: str | None = None) -> Thing:
    """Add a device, recipe, search, block, metric or another thing of one's own, so that it is known by its name.

    It returns what it was given, so that it decorates a class: `@cimenv.register`.

    Args:
        thing: a subclass of what the kind is based on, such as `DeviceModel`, `Recipe`, `Search`, `Block` or
            `CostTerm`; for a data set or a feature an object of `DataSet` or `Feature`; for a backbone a function or
            class that makes one.
        kind: which kind it is, one of `REGISTRIES`; default what its base class tells. A function needs it.
        name: default the one that it says itself: its `kind`, `name`, or that of the function.

    Raises:
        ConfigError: it is of no kind, has no name, or the name is taken.
        UnknownNameError: no such kind.
    """
    if kind is None:
        fitting = [each for each, registry in REGISTRIES.items() if registry.tells(thing)]
        if len(fitting) != 1:
            raise ConfigError(f"register: got {brief(thing)}; say which kind it is, one of {', '.join(REGISTRIES)}.")
        kind = fitting[0]
    REGISTRIES[known_name("kind", kind, REGISTRIES)].register(thing, name)
    return thing
