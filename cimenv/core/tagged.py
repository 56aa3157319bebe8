"""Configurations whose class is chosen by a tag: a field typed by the base takes `{kind: pcm, drift: 0.5}`.

    class DeviceModel(Tagged):            # the base: the class that says its registry
        kind: str

        @classmethod
        def registry(cls) -> Registry[type[DeviceModel]]:
            return DEVICES

    class CrossbarConfig(Frozen):
        device: DeviceModel = LogNormal()   # an object, or a mapping with its tag

A field gives back all fields of the class that was chosen. A class of the user's own need not be registered: its tag is
then where it is, `mine.py:Mine`, and that is what is written for every class that is not built in, so that keys differ.
Where its numbers change, it says so by a field of its own, `version: int = 2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import CoreSchema, core_schema

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError, UntrustedError
from cimenv.core.registry import Registry
from cimenv.core.strict import named_fields


def _is_base(cls: type) -> bool:
    """Return whether a class stands for all of a registry, rather than being chosen from one."""
    return "registry" in vars(cls) and Frozen not in cls.__bases__


class Tagged(Frozen):
    """A configuration whose class is chosen from a registry by its tag."""

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return where the classes are known by their tags."""
        raise NotImplementedError

    @classmethod
    def chosen(cls, value: Any) -> Any:
        """Return the configuration that a mapping with a tag describes, or one that is made already.

        Raises:
            ValueError: it is neither, its tag is unknown, or a field holds what is not allowed.
        """
        if isinstance(value, cls):
            return value
        registry = cls.registry()
        tag = registry.tag
        if not isinstance(value, Mapping) or tag not in value:
            raise ValueError(f"give a mapping with its {tag}, one of {', '.join(registry)}")
        model = registry.find(value[tag])
        fields = {field: part for field, part in named_fields(value).items() if field != tag}
        try:
            return model(**fields)
        except UntrustedError:
            raise
        except ConfigError as error:  # "LogNormal.sigma: ...", said of a field of this type
            name = model.__name__ if ":" in value[tag] else value[tag]
            raise ConfigError(re.sub(rf"^{model.__name__}(?=[.:])", f"{cls.__name__}.{name}", str(error))) from None

    if not TYPE_CHECKING:

        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            if not _is_base(cls):
                return super().__get_pydantic_core_schema__(source, handler)
            shown = core_schema.simple_ser_schema("any")  # by the class of the value, not of the field
            return core_schema.no_info_plain_validator_function(cls.chosen, serialization=shown)

        @classmethod
        def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
            if not _is_base(cls):
                return super().__get_pydantic_json_schema__(schema, handler)
            tag, names = cls.registry().tag, list(cls.registry())
            return {"title": cls.__name__, "type": "object", "properties": {tag: {"enum": names}}, "required": [tag]}

    @model_serializer(mode="wrap")
    def _with_its_class(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields; the tag of a class that is not built in is where it is."""
        registry = self.registry()
        shown: dict[str, Any] = self.without_what_is_off(fields(self))
        if registry.tag in shown:
            shown[registry.tag] = registry.written(type(self))
        return shown

    def without_what_is_off(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields that keys are made of; a field that came later may leave them while it is off."""
        return fields

    def __setstate__(self, state: dict[Any, Any]) -> None:
        self.registry().written(type(self))  # from now on it is found here, though its module came with the pickle
        super().__setstate__(state)
