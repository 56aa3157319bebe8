"""What computes in a process: versions, cimenv's source files, and whether its functions are those of the files.

This text itself is sent to workers and run there, also where they have no cimenv or another one; it imports nothing of
cimenv, and speaks the Python of any worker.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import CodeType
from typing import Any


def installation() -> dict[str, str]:
    """Return versions of Python, cimenv and torch, and a digest of cimenv's source files; "" for what is missing."""
    versions = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "cimenv": "", "torch": "", "source": ""}
    for name in ("torch", "cimenv"):
        if importlib.util.find_spec(name) is not None:
            versions[name] = str(getattr(importlib.import_module(name), "__version__", "?")).split("+")[0]
    if versions["cimenv"]:
        versions["source"] = source_digest(Path(str(sys.modules["cimenv"].__file__)).parent)
    return versions


def source_digest(folder: Path) -> str:
    """Return a digest of the names and the bytes of all Python files under a folder."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\n{files[name].stat().st_size}\n".encode() + files[name].read_bytes())
    return digest.hexdigest()[:32]


def changed_functions(package: str = "cimenv") -> list[str]:
    """Return the names of functions and methods in memory that are not what their modules' files define."""
    names = []
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.partition(".")[0] == package and hasattr(getattr(spec, "loader", None), "get_code"):
            code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
            if code is not None:
                names += [f"{name}.{inner}" for inner in [*_changed(vars(module), code), *_rebound(vars(module), code)]]
    return sorted(names)


def _rebound(members: Any, code: CodeType) -> list[str]:
    """Return the functions that a module imports and that are, there, not those of the module they come from."""
    names, home, attribute = [], "", ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            home = str(step.argval)
        elif step.opname == "IMPORT_FROM":
            attribute = str(step.argval)
        elif step.opname == "STORE_NAME" and attribute:
            origin = vars(sys.modules.get(home, sys)).get(attribute)
            there = members.get(str(step.argval), origin)  # a lazy import has not been made yet
            if inspect.isfunction(origin) and there is not origin:
                names.append(str(step.argval))
            attribute = ""
    return names


def _changed(members: Any, code: CodeType) -> list[str]:
    """Return the names defined by a module's or a class's code that mean something else among its members."""
    defined: dict[str, list[CodeType]] = {}
    for const in code.co_consts:
        if isinstance(const, CodeType):
            defined.setdefault(const.co_name, []).append(const)
    names = []
    for name, codes in defined.items():
        member = members.get(name)
        if isinstance(member, type):
            inner = [_changed(vars(member), one) for one in codes]
            names += [f"{name}.{deeper}" for deeper in min(inner, key=len)]
        else:
            there = _code(member)
            if there is not None and there not in codes:
                names.append(name)
    return names


def _code(member: Any) -> CodeType | None:
    """Return the code behind a function, however it is decorated."""
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, functools.cached_property):
        member = member.func
    elif isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None
