"""A user's module, from its name or from its file; while a file of others is read, none is imported."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

from cimenv.core.errors import ConfigError, UntrustedError

_FILE: ContextVar[str | None] = ContextVar("file of others", default=None)


@contextmanager
def untrusted(file: str | Path) -> Iterator[None]:
    """While a file of others is read, refuse to import what it names."""
    token = _FILE.set(str(file))
    try:
        yield
    finally:
        _FILE.reset(token)


def check_trusted(name: str) -> None:
    """Refuse to import what a file of others names.

    Raises:
        UntrustedError: one is being read.
    """
    if (file := _FILE.get()) is not None:
        raise UntrustedError(
            f"'{name}' is named by {file}, and what a file names is not imported; if you trust it, give trust=True, or "
            "--trust to the command."
        )


def module_of(name: str) -> ModuleType:
    """Import `package.module`, or the file `folder/mine.py`; the same file is imported once.

    What stands beside the file can be imported by it, after everything that is installed.

    Raises:
        ConfigError: there is no such file.
        Exception: whatever importing it raises.
    """
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"Cannot load '{name}': there is no such file; write path/to/file.py:name.")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    known = path.stem if _free(path) else f"{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(known, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[known] = module  # where classes look for their source
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def _free(path: Path) -> bool:
    """Whether no other module, imported or installed, has the name of a file."""
    if path.stem in sys.modules:
        return False
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        return False
    return spec is None or spec.origin == str(path)
