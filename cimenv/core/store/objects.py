"""Payloads in files of their own: written whole or not at all, by one writer of a folder at a time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cimenv.core.config import digest
from cimenv.core.store.record import key_of

# name (digest of the key), key, bytes, checksum, and the payload itself where it lies in the index
Row = tuple[str, str, int, str, bytes | None]


def object_path(folder: Path, name: str) -> Path:
    """Return the file of a payload."""
    return folder / "objects" / f"{name}.safetensors"


def write_object(folder: Path, name: str, data: bytes) -> None:
    """Write a payload, on disk when this returns; the caller holds the folder's lock."""
    target = object_path(folder, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def drop_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed writers; the caller holds the folder's lock, so no process is writing."""
    for pattern in ("objects/*.tmp", "*.tmp"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def rows_of_objects(folder: Path) -> Iterator[Row]:
    """Yield a row for every payload file that is whole and lies under its own name."""
    for path in sorted(folder.glob("objects/*.safetensors")):
        data = path.read_bytes()
        key = key_of(data)
        if key is not None and path == object_path(folder, digest(key)):
            yield digest(key), key, len(data), digest(data), None
