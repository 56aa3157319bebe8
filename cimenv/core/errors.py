"""Every exception cimenv raises on purpose. Each message is one sentence: field, value, remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from cimenv.core.inert import printable

WIDTH = 80  # characters of a value
LONGEST = 1_000  # characters of a message


def brief(value: object) -> str:
    """Return a value in a few words for a message, whatever it is."""
    if isinstance(value, int) and not -(2**200) < value < 2**200:
        return f"an int of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a number of too many digits within it, or a `__repr__` that fails
        return f"a {type(value).__name__}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def one_line(text: str) -> str:
    """Return a message on one line that a terminal prints as it stands; very long words and messages are cut."""
    text = printable(" ".join(text.split()))
    text = re.sub(r"\S{300,}", lambda word: f"{word[0][:140]}...{word[0][-20:]}", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} ... {text[-180:]}"


class CimenvError(Exception):
    """Base of all errors that cimenv raises on purpose."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(CimenvError, ValueError):
    """A configuration holds a value that is not allowed."""


class UntrustedError(ConfigError):
    """A file that may be of others names a module, which is not imported."""


class UnknownNameError(ConfigError):
    """A name is not in its registry; the message lists what is."""

    def __init__(self, what: str, given: object, known: Iterable[str]) -> None:
        super().__init__(what, given, sorted(known))  # the arguments themselves, so that the error pickles

    def __str__(self) -> str:
        what, given, names = self.args
        text = given if isinstance(given, str) else brief(given)
        near = difflib.get_close_matches(text[:WIDTH], names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return one_line(f"Unknown {what} '{text}'; known: {', '.join(names)}.{hint}")


def known_name(what: str, given: Any, known: Collection[str]) -> str:
    """Return a name that is in its registry.

    Raises:
        UnknownNameError: it is not, or is no text.
    """
    if not isinstance(given, str) or given not in known:
        raise UnknownNameError(what, given, known)
    return given


class DataError(CimenvError, ValueError):
    """A data set is missing, damaged, or does not fit the backbone."""


class MappingError(CimenvError, ValueError):
    """A network cannot be mapped to a crossbar."""


class PlacementError(CimenvError, ValueError):
    """A placement has the wrong length or names an option that does not exist."""


class InvalidActionError(CimenvError, ValueError):
    """An action lies outside the action space, or is masked while `invalid_action="raise"`."""


class EpisodeError(CimenvError, RuntimeError):
    """`step` was called before `reset` or after the episode's end."""


class StoreError(CimenvError, OSError):
    """The cache folder cannot be created, read or written."""


class BudgetError(CimenvError, RuntimeError):
    """A Ledger has no distinct evaluations left."""


class DependencyError(CimenvError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
