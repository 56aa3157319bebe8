"""Frozen, typed configuration: one base class, YAML files, dotted overrides, one-line errors."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from cimenv.core.errors import CimenvError, ConfigError, UnknownNameError, UntrustedError, brief
from cimenv.core.files import CONFIGURATION, read_text
from cimenv.core.modules import check_trusted, module_of
from cimenv.core.strict import WHOLE, named_fields, strict
from cimenv.core.yaml_text import parsed


class Frozen(BaseModel):
    """A frozen configuration; unknown keys, NaN and infinity are refused with one sentence.

    Fields are strict about types and sizes: see `strict`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    if not TYPE_CHECKING:

        def __init__(self, **data: Any) -> None:
            with in_one_sentence(type(self)):
                super().__init__(**data)

        @classmethod
        def model_validate(cls, obj: Any, **settings: Any) -> Any:
            """Validate; raise ConfigError."""
            with in_one_sentence(cls):
                return super().model_validate(obj, **settings)

        @classmethod
        def model_validate_json(cls, json_data: Any, **settings: Any) -> Any:
            """Validate; raise ConfigError."""
            with in_one_sentence(cls):
                return super().model_validate_json(json_data, **settings)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(named_fields, strict(handler(source)))

    def canonical(self) -> str:
        """Return the configuration as canonical JSON: equal configurations give equal text."""
        return canonical(self.model_dump(mode="json"))


@contextmanager
def in_one_sentence(model: type[BaseModel]) -> Iterator[None]:
    """Raise what pydantic complains about as a ConfigError."""
    try:
        yield
    except ValidationError as error:
        cause = error.errors()[0].get("ctx", {}).get("error")
        kind = UntrustedError if isinstance(cause, UntrustedError) else ConfigError
        raise kind(one_sentence(error, model)) from None
    except UnicodeEncodeError as error:  # in the message of a check, or in a name
        raise ConfigError(f"{model.__name__}: got {brief(error.object)}; give text that UTF-8 can hold.") from None


def one_sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """Turn pydantic's first complaint about `model` into one sentence: field, what was given, what is allowed."""
    first = error.errors()[0]
    path = ".".join([model.__name__, *(str(part) for part in first["loc"] if not str(part).startswith("function-"))])
    given = brief(first.get("input"))
    text = str(first["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = f"{text[0].lower()}{text[1:]}" + ("" if text[-1] in ".?" else ".")
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"{path}: unknown key (got {given}); known: {', '.join(model.model_fields)}.{hint}"
    if first["type"] == "missing":
        return f"{path}: missing; give it a value."
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UnknownNameError):
        return f"{path}: {text}"
    if isinstance(cause, ConfigError) and not first["loc"] and str(cause).startswith(model.__name__):
        return str(cause)  # from its own `__init__`
    nested = re.fullmatch(r"[A-Z]\w*((?:\.[^\s:]+)*: .+)", str(cause)) if isinstance(cause, ConfigError) else None
    if nested:
        return f"{path}{nested[1]}"
    whole = not first["loc"] and first["type"] == "value_error"  # a check of several fields names them itself
    return f"{path}: {text}" if whole else f"{path}: got {given}; {text}"


def checked_int(name: str, value: Any, at_least: int, at_most: int = WHOLE) -> int:
    """Return a whole number.

    Raises:
        ConfigError: it is none (a bool is none), too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < at_least:
        raise ConfigError(f"{name}: got {brief(value)}; give an int of at least {at_least}.")
    if int(value) > at_most:
        raise ConfigError(f"{name}: got {brief(value)}; give an int of at most {at_most:,}.")
    return int(value)


def canonical(value: Any) -> str:
    """Return canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str | bytes) -> str:
    """Return the first 32 hexadecimal digits of the text's SHA-256."""
    data = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(data).hexdigest()[:32]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping safely.

    Raises:
        ConfigError: the file is missing, is no YAML, or holds no mapping of text to values.
    """
    try:
        text = read_text(path, CONFIGURATION)
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}; give the path of a YAML file.") from None
    except ValueError as error:  # a null character in its name
        raise error if isinstance(error, CimenvError) else ConfigError(f"Cannot read {path}: {error}.") from None
    content = parsed(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; a mapping of fields is needed.")
    return checked_keys(content, str(path))


def checked_keys(fields: Any, what: str) -> dict[str, Any]:
    """Return fields by name.

    Raises:
        ConfigError: it is no mapping, or a key is no text.
    """
    if not isinstance(fields, Mapping):
        raise ConfigError(f"{what}: got {brief(fields)}; give a mapping of fields.")
    if wrong := [name for name in fields if not isinstance(name, str)]:
        raise ConfigError(f"{what}: the key {brief(wrong[0])} is no text; give names of fields.")
    return dict(fields)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, mapping by mapping.

    A mapping that names another `kind`, `name` or `preset` (a device, a recipe, a crossbar) replaces the whole old one.
    """
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            replaced = any(tag in value and value[tag] != old.get(tag) for tag in ("kind", "name", "preset"))
            out[key] = dict(value) if replaced else merged(old, value)
        else:
            out[key] = value
    return out


def with_overrides(base: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Apply dotted overrides such as `crossbar.device.sigma=0.3`; values are read as YAML.

    Raises:
        ConfigError: an override has no `=`, or its value is no YAML.
    """
    out = dict(base)
    for item in overrides:
        if not isinstance(item, str):
            raise ConfigError(f"Override {brief(item)} is no text; write key=value, for example seed=1.")
        path, sign, text = item.partition("=")
        if not sign or not path:
            raise ConfigError(f"Override '{item}' has no '='; write key=value, for example seed=1.")
        value = parsed(text, f"Override '{item}': '{text}'")
        for part in reversed(path.split(".")):
            value = {part: value}
        out = merged(out, value)
    return out


def load_object(path: str) -> Any:
    """Import what `package.module:name`, or `folder/file.py:name`, names.

    Raises:
        ConfigError: the text has no colon, module, file or name does not exist, or a file of others says it.
    """
    check_trusted(path)
    module, _, name = path.rpartition(":")
    try:
        return getattr(module_of(module), name)
    except ConfigError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"Cannot load '{path}': {error}; write package.module:name.") from None
    except Exception as error:  # whatever a user's module does
        raise ConfigError(f"Cannot load '{path}': {where(error)}; correct the module.") from error


def call_object(path: str, arguments: Mapping[str, Any] | None = None, field: str = "arguments") -> Any:
    """Call the function that `package.module:name` names.

    Raises:
        ConfigError: it does not exist, does not take the arguments (`field` is where they were given), or fails.
    """
    return called(load_object(path), path, arguments, field)


def called(
    function: Callable[..., Any], path: str, arguments: Mapping[str, Any] | None = None, field: str = "arguments"
) -> Any:
    """Call a user's function, which `path` names; see `call_object`."""
    given = dict(arguments or {})
    try:
        inspect.signature(function).bind(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}: '{path}' refuses them ({error}); correct its arguments.") from None
    try:
        return function(**given)
    except CimenvError:
        raise
    except Exception as error:  # whatever a user's function does
        raise ConfigError(f"'{path}' fails: {where(error)}; correct the function.") from error


def where(error: Exception) -> str:
    """Return the kind and the message of an exception, and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    told = " ".join(str(error).split()).rstrip(".")
    line = "" if isinstance(error, SyntaxError) else f" ({Path(last.filename).name}, line {last.lineno})"
    return f"{type(error).__name__}: {told}{line}"
