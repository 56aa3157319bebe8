"""YAML as people mean it: what a file of settings may hold, read and written.

Scalars are those of YAML 1.2: `yes`, `on` and `1:30` are text, `1e-3` is a number. What hides a mistake or harms is an
error: a key given twice, an alias of what it lies in, aliases that unfold to a large document, deep nesting, long
numbers, tags of other types.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from cimenv.core.errors import ConfigError

DEPTH = 32  # levels of brackets or indentation
NODES = 100_000  # scalars, lists and mappings, aliases written out
DIGITS = 30  # of a whole number: more than 64 bits hold

TAG = "tag:yaml.org,2002:"
SCALARS = {  # the core schema of YAML 1.2, and underscores between digits
    "null": (r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}


class _Resolver(BaseResolver):
    """Knows the scalars of YAML 1.2."""


for _name, (_pattern, _first) in SCALARS.items():
    _Resolver.add_implicit_resolver(f"{TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _first)


class _Loader(Reader, Scanner, Parser, Composer, SafeConstructor, _Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        _Resolver.__init__(self)
        self.depth = 0
        self.sizes: dict[int, int] = {}  # nodes under a node, aliases written out

    def compose_node(self, parent: Node | None, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        self.depth += 1
        if self.depth > DEPTH:
            raise ComposerError(None, None, f"more than {DEPTH} levels", mark)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self.sizes:
            raise ComposerError(None, None, f"'*{event.anchor}' stands within what it names", mark)
        if node is not None and id(node) not in self.sizes:
            parts: list[Node] = []
            if isinstance(node, SequenceNode):
                parts = node.value
            elif isinstance(node, MappingNode):
                parts = [part for pair in node.value for part in pair]
            self.sizes[id(node)] = 1 + sum(self.sizes[id(part)] for part in parts)
            if self.sizes[id(node)] > NODES:
                raise ComposerError(None, None, f"more than {NODES:,} entries, aliases written out", mark)
        return node

    def mapping(self, node: Node) -> dict[Hashable, Any]:
        if not isinstance(node, MappingNode):
            raise ConstructorError(None, None, "a mapping is needed", node.start_mark)
        made: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in made:
                raise ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            made[key] = self.construct_object(value_node, deep=True)
        return made

    def sequence(self, node: Node) -> list[Any]:
        if not isinstance(node, SequenceNode):
            raise ConstructorError(None, None, "a list is needed", node.start_mark)
        return [self.construct_object(part, deep=True) for part in node.value]

    def other(self, node: Node) -> Any:
        tag = str(node.tag).replace(TAG, "!!")
        raise ConstructorError(None, None, f"'{tag}' is no type for settings", node.start_mark)

    def scalar(self, node: Node) -> Any:
        kind = str(node.tag).removeprefix(TAG)
        text = node.value if isinstance(node, ScalarNode) else None
        if text is None or not re.fullmatch(SCALARS[kind][0], text):
            raise ConstructorError(None, None, f"no {kind} is written so", node.start_mark)
        if kind == "int":
            if len(text) > DIGITS:
                raise ConstructorError(None, None, f"a number of more than {DIGITS} digits", node.start_mark)
            return int(text, 0 if text[:2] in ("0x", "0o") else 10)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return None if kind == "null" else text.lower() == "true"


_Loader.yaml_constructors = {
    f"{TAG}map": _Loader.mapping,
    f"{TAG}seq": _Loader.sequence,
    f"{TAG}str": _Loader.construct_yaml_str,
    **{f"{TAG}{name}": _Loader.scalar for name in SCALARS},
    None: _Loader.other,
}


class _Dumper(yaml.SafeDumper):
    """Quotes what would be read as anything but text, here or by readers of YAML 1.1."""

    yaml_implicit_resolvers = {
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()),
            *_Resolver.yaml_implicit_resolvers.get(first, ()),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Resolver.yaml_implicit_resolvers}
    }


def parsed(text: str, source: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: the document.
        source: what errors call it.

    Raises:
        ConfigError: it is no YAML, or holds what a file of settings must not.
    """
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise ConfigError(f"{source} is not valid YAML: {error.problem or error.context}{at}; correct it.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}; correct it.") from None


def written(value: Any, flow: bool | None = False, width: int = 80) -> str:
    """Return plain values as YAML that reads back the same, fields in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width)
