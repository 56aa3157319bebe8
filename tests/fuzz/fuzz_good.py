"""Arguments with which the package's public calls work, to be spoilt one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

import cimenv
from cimenv.crossbar import CrossbarConfig, preset
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, load_task


def images() -> torch.Tensor:
    return torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def part() -> cimenv.ImageSet:
    return cimenv.ImageSet(images(), torch.arange(12) % 4)


def splits() -> cimenv.DataSplits:
    return cimenv.DataSplits("tiny", part(), part(), part(), 4)


def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


def evaluator() -> MonteCarloEvaluator:
    return MonteCarloEvaluator(load_task("toy-4site"))


@lru_cache(maxsize=1)
def everything() -> Mapping[str, Callable[..., Any]]:
    """Return the public calls by name: those of `cimenv` itself, and methods and functions users reach by them."""
    found = {name: getattr(cimenv, name) for name in cimenv.__all__ if callable(getattr(cimenv, name))}
    bound = evaluator()
    methods = {f"evaluator.{name}": getattr(bound, name) for name in ("evaluate", "evaluate_many", "clean_accuracy")}
    return {
        **{name: call for name, call in found.items() if name in GOOD or not is_dataclass(call)},  # others are results
        **methods,
        "preset": preset,
        "run_search": run_search,
    }


GOOD: Mapping[str, Mapping[str, Callable[[], Any]]] = {
    "ImageSet": {"images": images, "labels": lambda: torch.arange(12) % 4},
    "DataSplits": {"name": lambda: "tiny", "train": part, "val": part, "test": part, "classes": lambda: 4},
    "MonteCarloEvaluator": {"task": lambda: load_task("toy-4site")},
    "load_data": {"name": lambda: "fashion-mini"},
    "load_task": {"task": lambda: "toy-4site"},
    "map_network": {"model": model, "config": CrossbarConfig, "input_shape": lambda: (1, 8, 8)},
    "evaluate": {"model": model, "data": splits, "store": tempfile.mkdtemp},
    "place": {"model": model, "data": splits, "store": tempfile.mkdtemp},
    "fork": {"env": lambda: cimenv.envs.CompensationTabularEnv()},
    "evaluator.evaluate": {"placement": lambda: (0, 0, 0, 0)},
    "evaluator.evaluate_many": {"placements": lambda: [(0, 0, 0, 0)]},
    "evaluator.clean_accuracy": {},
    "preset": {"name": lambda: "pcm"},
    "run_search": {"evaluator": evaluator},
}
