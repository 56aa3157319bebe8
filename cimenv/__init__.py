"""cimenv: where to put digital error-compensation blocks in an analog in-memory accelerator.

`import cimenv` registers the environments; everything else is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from cimenv.core.lazy import lazily

if TYPE_CHECKING:
    from cimenv.crossbar import BitSlicedGaussian, CrossbarConfig, Ideal, LogNormal, map_network
    from cimenv.data import DataSplits, ImageSet, load_data
    from cimenv.envs import fork
    from cimenv.registries import register
    from cimenv.search import PlacementResult, place
    from cimenv.tasks import MonteCarloEvaluator, Task, evaluate, load_task

__version__ = "0.1.0"

_HOMES = {
    "BitSlicedGaussian": "cimenv.crossbar",
    "CrossbarConfig": "cimenv.crossbar",
    "DataSplits": "cimenv.data",
    "Ideal": "cimenv.crossbar",
    "ImageSet": "cimenv.data",
    "LogNormal": "cimenv.crossbar",
    "MonteCarloEvaluator": "cimenv.tasks",
    "PlacementResult": "cimenv.search",
    "Task": "cimenv.tasks",
    "evaluate": "cimenv.tasks",
    "fork": "cimenv.envs",
    "load_data": "cimenv.data",
    "load_task": "cimenv.tasks",
    "map_network": "cimenv.crossbar",
    "place": "cimenv.search",
    "register": "cimenv.registries",
}
__all__ = [
    "BitSlicedGaussian",
    "CrossbarConfig",
    "DataSplits",
    "Ideal",
    "ImageSet",
    "LogNormal",
    "MonteCarloEvaluator",
    "PlacementResult",
    "Task",
    "__version__",
    "evaluate",
    "fork",
    "load_data",
    "load_task",
    "map_network",
    "place",
    "register",
]

_ENVIRONMENTS = {
    "CiMCompensation-v0": "cimenv.envs:CompensationEnv",
    "CiMCompensationWalk-v0": "cimenv.envs:CompensationWalkEnv",
    "CiMCompensationTabular-v0": "cimenv.envs:CompensationTabularEnv",
}
_VECTORISED = {"CiMCompensationTabular-v0": "cimenv.envs:TabularVectorEnv"}
for _name, _entry in _ENVIRONMENTS.items():
    if _name not in gym.registry:
        gym.register(id=_name, entry_point=_entry, vector_entry_point=_VECTORISED.get(_name))


def __getattr__(name: str) -> Any:
    if name in ("crossbar", "data", "envs", "search", "tasks"):
        return importlib.import_module(f"cimenv.{name}")
    return lazily(__name__, _HOMES)(name)


def __dir__() -> list[str]:
    return sorted(__all__)
