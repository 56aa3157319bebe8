"""Enumerations that somebody changed with care: their checksums fit."""

import json

from cimenv.core.checked_rows import Checks
from cimenv.tasks.files.header import MAGIC


def signed(data: bytes) -> bytes:
    """Return the file with the checksums that its lines should have; a torn last line stays as it is."""
    *lines, rest = data.decode().split("\n")
    checks = Checks("".join(f"{line}\n" for line in lines[:2]))
    rows = [checks.signed(line.rpartition(",")[0]) for line in lines[2:]]
    return "\n".join([*lines[:2], *rows, rest]).encode()


def with_header(data: bytes, **fields) -> bytes:
    """Return the file with other fields in its header, dotted names for those of the task: `task__backbone`."""
    first, rest = data.decode().split("\n", 1)
    header = json.loads(first.removeprefix(MAGIC))
    for name, value in fields.items():
        *path, last = name.split("__")
        part = header
        for key in path:
            part = part[key]
        part[last] = value
    return signed(f"{MAGIC}{json.dumps(header, sort_keys=True, separators=(',', ':'))}\n{rest}".encode())


def as_version_2(data: bytes, **fields) -> bytes:
    """Return the file as the version before wrote it, without sites and checksums."""
    first, columns, *lines = with_header(data, version=2, **fields).decode().split("\n")
    header = json.loads(first.removeprefix(MAGIC))
    del header["sites"]
    header["task"]["metric"] = header["task"].pop("statistic")
    first = MAGIC + json.dumps(header, sort_keys=True, separators=(",", ":"))
    return "\n".join([first, *(line.rpartition(",")[0] for line in (columns, *lines))]).encode()
