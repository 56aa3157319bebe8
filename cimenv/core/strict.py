"""What a field of a configuration may hold: pydantic's schemas, made strict about numbers, text and sizes.

`true` is no number, `"1"` is no number, 8.0 is no whole number; whole numbers fit 64 bits, other numbers are of a size
that single-precision products bear, text can be written to a file, lists are finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from pydantic_core import CoreSchema, core_schema

from cimenv.core.errors import brief

WHOLE = 2**63 - 1
LARGEST = 1e18  # its square is a float32
TEXT = 10_000  # characters
ITEMS = 10_000  # of a list or a mapping
DEPTH = 20  # of plain values within each other

NOT_SCHEMAS = ("default", "metadata", "serialization", "expected", "cls", "config", "ref", "schema_ref", "custom_init")


def strict(schema: CoreSchema) -> CoreSchema:
    """Return a schema whose numbers, text and lists are checked strictly."""
    made: Any = _strict(schema)
    return made


def _strict(part: Any) -> Any:
    if isinstance(part, list):
        return [_strict(inner) for inner in part]
    if isinstance(part, tuple):  # a choice with its label
        return (_strict(part[0]), *part[1:])
    if not isinstance(part, dict):
        return part
    made: Any = {name: inner if name in NOT_SCHEMAS else _strict(inner) for name, inner in part.items()}
    kind = made.get("type")
    if not isinstance(kind, str):  # of the fields of a model, one that is called `type`
        return made
    if kind in CHECKS:
        return core_schema.no_info_before_validator_function(CHECKS[kind], {**made, "strict": True})
    if kind == "bool":
        return {**made, "strict": True}
    if kind in ("list", "tuple", "dict", "set"):
        return {"max_length": ITEMS, **made} if "max_length" not in made else made
    if kind == "any":
        return core_schema.no_info_before_validator_function(plain, made)
    return made


def named_fields(value: Any) -> Any:
    """Return the fields of a model, once it is known that all have names; what are none is left to pydantic."""
    if isinstance(value, Mapping) and (wrong := [name for name in value if not isinstance(name, str)]):
        raise ValueError(f"keys should be text, not {brief(wrong[0])}")
    return value


def whole(value: Any) -> Any:
    """Return a whole number as an int; what is none is left for pydantic to refuse."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return value
    if not -WHOLE <= int(value) <= WHOLE:
        raise ValueError("give a number that 64 bits hold")
    return int(value)


def number(value: Any) -> Any:
    """Return a number as an int or float; what is none is left for pydantic to refuse."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    made: Any = int(value) if isinstance(value, Integral) else float(value)
    if LARGEST < abs(made) < math.inf:
        raise ValueError(f"give a number of at most {LARGEST:g} in size")
    return made


def text(value: Any) -> Any:
    """Return text that a file can hold; what is none is left for pydantic to refuse."""
    if isinstance(value, str):
        if "\0" in value or not _encodes(value):
            raise ValueError("give text without null characters and half characters")
        if len(value) > TEXT:
            raise ValueError(f"give at most {TEXT:,} characters")
    return value


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: the arguments of something that is named elsewhere.

    Raises:
        ValueError: it is another, or too large.
    """
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > DEPTH:
        raise ValueError(f"lists and mappings are more than {DEPTH} deep; flatten them")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return whole(value)
    if isinstance(value, Real):
        if not math.isfinite(value):
            raise ValueError("input should be a finite number")
        return number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list | tuple | Mapping) and len(value) > ITEMS:
        raise ValueError(f"give at most {ITEMS:,} entries")
    if isinstance(value, list | tuple):
        return type(value)(_plain(inner, depth + 1) for inner in value)
    if isinstance(value, Mapping):
        return {text(name): _plain(inner, depth + 1) for name, inner in named_fields(value).items()}
    raise ValueError(f"give numbers, text, lists or mappings, not {brief(value)}")


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


CHECKS = {"int": whole, "float": number, "str": text}
