"""One registry a kind of thing: devices, recipes, searches, metrics; each thing is one file and one line.

The line stands in the registry, which names what is built in by where it is, so that names are known without importing
anything:

    METRICS = Registry("metric", Metric, {"accuracy": "cimenv.evaluation.accuracy:Accuracy"})
    METRICS["accuracy"]               # the class; a mistyped name is an UnknownNameError with a near match
    METRICS.find("mine.py:Mine")      # a name, or a class of the user's own by where it is
    METRICS.register(Mine)            # from now on by its name, too; a taken one is refused
    METRICS.written(Mine)             # how a configuration and a key write it: "mine:Mine", or the name of a built-in
    METRICS.rows()                    # name, summary, source: for tables in the documentation

What is registered is a subclass of the base, or an object of it where `objects` is true. A class says its name as
`kind` (or what `tag` says), an object as `name`, a function by its own name. A file of results, which may come from
others, is read `untrusted`: what it names by where it is is refused there, unless it is known already.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from cimenv.core.config import load_object
from cimenv.core.errors import ConfigError, brief, known_name

Entry = TypeVar("Entry")
NAME = re.compile(r"[A-Za-z_][\w.+-]*")
MAIN = ("__main__", "__mp_main__")  # a script; the same in a process that it started


@dataclass(frozen=True)
class Row:
    """An entry of a registry in a table of the documentation.

    Attributes:
        name: by which it is chosen.
        summary: first sentence of its docstring.
        source: where it is published, as its docstring says; empty where it does not.
    """

    name: str
    summary: str
    source: str


class Registry(Generic[Entry]):
    """What there is of one kind, by name.

    Args:
        what: the kind in words, for messages: `device`.
        base: class of which entries are subclasses, or objects; or where it is.
        built_in: by name, the object itself or where it is, `package.module:name`; imported when it is first used.
        tag: attribute of an entry that holds its name.
        objects: whether entries are objects of the base rather than subclasses.
    """

    def __init__(
        self, what: str, base: Any, built_in: Mapping[str, str | Entry], *, tag: str = "kind", objects: bool = False
    ) -> None:
        self.what, self.tag, self.objects = what, tag, objects
        self._base = base
        self._entries: dict[str, Any] = dict(built_in)
        self._built_in = tuple(built_in)
        self._own: dict[str, Entry] = {}  # by where they are

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names in order, those that were registered last."""
        return tuple(self._entries)

    @property
    def built_in(self) -> tuple[str, ...]:
        """Return the names that are not the user's own, in order."""
        return self._built_in

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __getitem__(self, name: str) -> Entry:
        entry = self._entries[known_name(self.what, name, self._entries)]
        if isinstance(entry, str):
            entry = self._entries[name] = _imported(entry)
        return cast("Entry", entry)

    @property
    def base(self) -> Any:
        """Return the class of which entries are subclasses, or objects."""
        if isinstance(self._base, str):
            self._base = _imported(self._base)
        return self._base

    def items(self) -> Iterator[tuple[str, Entry]]:
        """Yield names and entries."""
        return ((name, self[name]) for name in self.names)

    def find(self, name: Any) -> Entry:
        """Return the entry of a name, or the user's own that `package.module:name` or `file.py:name` names.

        Raises:
            UnknownNameError: no entry has the name.
            ConfigError: what is named cannot be imported, is none of this kind, or stands in a file of others.
        """
        if not isinstance(name, str) or ":" not in name:
            return self[name]
        if name in self._own:
            return self._own[name]
        entry = load_object(name)
        self._check(entry, name)
        if not self.objects:
            self._own[where_is(entry)] = entry
        return cast("Entry", entry)

    def is_built_in(self, name: object) -> bool:
        """Return whether a name is built in rather than registered by the user."""
        return name in self._built_in

    def register(self, entry: Entry, name: str | None = None) -> Entry:
        """Add an entry under its name, and return it, so that this decorates a class.

        Args:
            entry: class, object or function of the user's own.
            name: default the one that it says itself.

        Raises:
            ConfigError: it is none of this kind, says no name, or the name is taken.
        """
        given = getattr(entry, "__name__", None) or brief(entry)
        self._check(entry, given)
        name = self.name_of(entry) if name is None else name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(f"{self.what}: the {self.tag} is {brief(name)}; give a name of letters and digits.")
        taken = self._entries.get(name)
        if taken is not None and (name in self._built_in or where_is(taken) != where_is(entry)):
            raise ConfigError(f"{self.what}: the name '{name}' is taken; give {given} another {self.tag}.")
        self._entries[name] = entry  # in a notebook, its newest definition
        self._own[where_is(entry)] = entry
        return entry

    def name_of(self, entry: Any) -> Any:
        """Return the name that an entry gives itself, or None where it gives none."""
        fields: Mapping[str, Any] = getattr(entry, "model_fields", {}) if isinstance(entry, type) else {}
        if self.tag in fields:
            said = fields[self.tag].get_default()
            return said if isinstance(said, str) else None
        said_name = getattr(entry, self.tag, None)
        unnamed = said_name is None and (self.objects or not isinstance(entry, type))
        return getattr(entry, "__name__", None) if unnamed else said_name

    def written(self, entry: Entry, name: str | None = None) -> str:
        """Return how a configuration writes an entry: a built-in by its name, the user's own by where it is."""
        name = self.name_of(entry) if name is None else name
        if name in self._built_in and self[name] is entry:
            return cast("str", name)
        self._own[where_is(entry)] = entry  # so that it is found again, wherever its module is
        return where_is(entry)

    def rows(self) -> list[Row]:
        """Return a row for every entry."""
        return [Row(name, *_described(entry)) for name, entry in self.items()]

    def tells(self, entry: Any) -> bool:
        """Return whether the base class of an entry shows that it is of this kind; a function has none."""
        return self.base is not Callable and self._fits(entry)

    def _fits(self, entry: Any) -> bool:
        if self.objects:
            return isinstance(entry, self.base)
        return isinstance(entry, type) and issubclass(entry, self.base)

    def _check(self, entry: Any, given: str) -> None:
        if not self._fits(entry):
            wanted = f"{'an object' if self.objects else 'a subclass'} of {_said(self.base)}"
            raise ConfigError(f"{self.what}: got {given}; give {wanted}.")
        if not self.objects and self.name_of(entry) is None:
            raise ConfigError(f"{self.what}: {given} has no {self.tag}; give it one, such as {self.tag} = 'mine'.")


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def where_is(entry: Any) -> str:
    """Return where a class, a function or an object's class is: `package.module:name`, of a script by its file."""
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    module = named.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if module in MAIN and file:
        module = Path(file).stem
    own = "" if named is entry else f".{getattr(entry, 'name', '')}"
    return f"{module}:{named.__qualname__}{own}"


def _described(entry: Any) -> tuple[str, str]:
    """Return the first sentence of an entry's docstring, and its source."""
    said = getattr(entry, "doc", None)
    text = said if isinstance(said, str) and said else inspect.getdoc(entry) or ""
    source = re.search(r"^Source: (.+?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    first = text.partition("\n\n")[0]
    return " ".join(first.split()), " ".join(source[1].split()) if source else ""


def _said(base: Any) -> str:
    return "a function" if base is Callable else f"{base.__module__}.{base.__qualname__}"
