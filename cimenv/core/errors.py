"""Every exception cimenv raises on purpose. Each message is one sentence: field, value, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CimenvError(Exception):
    """Base of all errors that cimenv raises on purpose."""


class ConfigError(CimenvError, ValueError):
    """A configuration holds a value that is not allowed."""


class UnknownNameError(ConfigError):
    """A name is not in its registry; the message lists what is."""

    def __init__(self, what: str, given: object, known: Iterable[str]) -> None:
        super().__init__(what, given, sorted(known))  # the arguments themselves, so that the error pickles

    def __str__(self) -> str:
        what, given, names = self.args
        near = difflib.get_close_matches(str(given), names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"Unknown {what} '{given}'; known: {', '.join(names)}.{hint}"


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
