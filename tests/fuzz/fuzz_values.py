"""Values for the fuzz: what a JSON schema allows, and what nobody should give."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cimenv.core.registry import Registry
from cimenv.crossbar.device import DEVICES
from cimenv.training import RECIPES

REGISTRIES: dict[str, Registry[Any]] = {"DeviceModel": DEVICES, "Recipe": RECIPES}

HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: -1,
    lambda: 0,
    lambda: 1,
    lambda: 2,
    lambda: 10**12,
    lambda: 10**15,
    lambda: 2**63,
    lambda: -(2**63) - 1,
    lambda: 10**30,
    lambda: 10**400,
    lambda: 10**5_000,
    lambda: -1.0,
    lambda: 0.0,
    lambda: -0.0,
    lambda: 0.5,
    lambda: 1.0,
    lambda: 1e308,
    lambda: 5e-324,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: "",
    lambda: " ",
    lambda: "yes",
    lambda: "1:30",
    lambda: "1",
    lambda: "nan",
    lambda: "9" * 5_000,
    lambda: "a\nb\x1b[31m\x00",
    lambda: "\ud800",
    lambda: "[bold]=1+1",
    lambda: "../../etc/passwd",
    lambda: "no_such_module:thing",
    lambda: "os:getcwd",
    lambda: "x" * 100_000,
    lambda: b"bytes",
    list,
    lambda: [1],
    lambda: [[[[]]]],
    lambda: ["a", None, math.nan],
    lambda: list(range(100_000)),
    dict,
    lambda: {1: 2},
    lambda: {"": {}},
    lambda: {"kind": "ideal"},
    lambda: {"name": "standard"},
    lambda: {None: []},
    lambda: 1j,
    lambda: object(),
    lambda: range(3),
    lambda: {1, 2},
    lambda: np.float64(0.5),
    lambda: np.int64(3),
    lambda: np.array([1.0, math.nan]),
    lambda: torch.tensor(1),
    lambda: _circle(),
)


def _circle() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def hostile(rng: random.Random) -> Any:
    """Return a value of any type, sign, size or length."""
    return rng.choice(HOSTILE)()


class SchemaDraws:
    """Draws from a JSON schema; every value is, with probability `wild`, anything at all."""

    def __init__(self, schema: Mapping[str, Any], rng: random.Random, wild: float) -> None:
        self.schema, self.rng, self.wild = schema, rng, wild

    def draw(self, schema: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
        """Return a value for a part of the schema."""
        part = self.schema if schema is None else schema
        while "$ref" in part:
            part = self.schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
        if depth and self.rng.random() < self.wild:
            return hostile(self.rng)
        for choice in ("oneOf", "anyOf", "allOf"):
            if choice in part:
                return self.draw(self.rng.choice(part[choice]), depth)
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return self.rng.choice(part["enum"])
        kind = part.get("type")
        kind = self.rng.choice(kind) if isinstance(kind, list) else kind
        made = getattr(self, f"_{kind}", None)
        return hostile(self.rng) if made is None else made(part, depth + 1)

    def fields(self, schema: Mapping[str, Any], count: int, depth: int = 1) -> dict[str, Any]:
        """Return `count` of the properties of an object, drawn, with those that it must have."""
        names = sorted(schema.get("properties", {}))
        chosen = {*self.rng.sample(names, min(count, len(names))), *schema.get("required", ())}
        kinds = [name for name in ("kind", "name") if name in names and "const" in schema["properties"][name]]
        return {name: self.draw(schema["properties"][name], depth) for name in (*kinds, *sorted(chosen - {*kinds}))}

    def _object(self, part: Mapping[str, Any], depth: int) -> dict[str, Any]:
        if part.get("title") in REGISTRIES:
            return self._tagged(REGISTRIES[part["title"]], depth)
        if "properties" in part:
            return self.fields(part, self.rng.randint(0, 3), depth)
        inner = part.get("additionalProperties")
        keys = part.get("propertyNames", {"type": "string"})
        count = self.rng.randint(0, 2)
        drawn = {}
        for _ in range(count):
            key = self.draw(keys, 0)
            drawn[key] = hostile(self.rng) if not isinstance(inner, Mapping) else self.draw(inner, depth)
        return drawn

    def _tagged(self, registry: Registry[Any], depth: int) -> dict[str, Any]:
        schema = registry[self.rng.choice(registry.names)].model_json_schema()
        return SchemaDraws(schema, self.rng, self.wild).fields(schema, self.rng.randint(0, 3), depth)

    def _array(self, part: Mapping[str, Any], depth: int) -> list[Any]:
        low = part.get("minItems", 0)
        if "prefixItems" in part:
            return [self.draw(item, depth) for item in part["prefixItems"]]
        return [self.draw(part.get("items", {}), depth) for _ in range(self.rng.randint(low, low + 2))]

    def _integer(self, part: Mapping[str, Any], depth: int) -> int:
        low, high = int(part.get("minimum", -3)), part.get("maximum")
        choices = [low, low + 1, low + 2, low - 1]
        return self.rng.choice([*choices, int(high), int(high) + 1] if high is not None else [*choices, 10**12])

    def _number(self, part: Mapping[str, Any], depth: int) -> float:
        low = part.get("minimum", part.get("exclusiveMinimum", -1.0))
        high = part.get("maximum", part.get("exclusiveMaximum", low + 2))
        return self.rng.choice([low, high, (low + high) / 2, self.rng.uniform(low, high), low - 1, high * 2 + 1, 1])

    def _string(self, part: Mapping[str, Any], depth: int) -> str:
        return self.rng.choice(["a", "conv1", "weights", "toy-4site", "fc*", "standard", "cpu"])

    def _boolean(self, part: Mapping[str, Any], depth: int) -> bool:
        return self.rng.random() < 0.5

    def _null(self, part: Mapping[str, Any], depth: int) -> None:
        return None
