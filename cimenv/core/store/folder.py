"""One folder of records: the store's own, or a read-only layer under it."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cimenv.core.config import digest
from cimenv.core.progress import Progress
from cimenv.core.store.index import COLUMNS, INDEX, INSERT, DamagedIndexError, Index, sound_row
from cimenv.core.store.objects import object_path, rows_of_objects, write_object
from cimenv.core.store.record import Record, key_of, kind_of

INLINE_BYTES = 32_768  # a smaller payload lives in the index itself: one file less per evaluation


class Folder:
    """Records by key in one folder. Whatever the system complains about is raised as OSError or sqlite3.Error.

    Args:
        path: the folder; made on first write.
        writable: whether it may be written and repaired.
    """

    def __init__(self, path: Path, writable: bool) -> None:
        self.path, self.writable = path, writable
        self.index = Index(path, writable)

    def get(self, key: str) -> Record | None:
        """Return the record of a key, or None where it is absent or damaged (with a warning)."""
        if not self.index.exists():
            return None
        name = digest(key)
        select = "SELECT checksum, payload FROM entries WHERE name = ?"
        try:
            row = self.index.read(lambda index: index.execute(select, (name,)).fetchone())
        except DamagedIndexError:
            self._lost(f"The index {self.index.path} is damaged and cannot be repaired there")
            return None
        if row is None:
            return None
        checksum, payload = row
        data = payload if isinstance(payload, bytes) else self._object(name)
        with suppress(ValueError):
            if digest(data) == checksum or (payload is None and key_of(data) == key):
                return Record.from_bytes(data)
        self._lost(f"Store entry {name} in {self.path} is damaged")
        if self.writable:
            with suppress(OSError, sqlite3.Error):  # what cannot be dropped stays, and is reported again
                self.index.write(lambda index: self._drop_damaged(index, "name", name))
        return None

    def put(self, items: Iterable[tuple[str, Record]]) -> None:
        """Write records in one transaction."""
        blobs = [(key, record.to_bytes(key)) for key, record in items]
        rows = [(digest(key), key, len(data), digest(data), data) for key, data in blobs]

        def write(index: sqlite3.Connection) -> None:
            for name, _, size, _, data in rows:
                if size > INLINE_BYTES:
                    write_object(self.path, name, data)
            small = ((*row[:4], row[4] if row[2] <= INLINE_BYTES else None) for row in rows)
            index.executemany(INSERT, small)
            for name, _, size, _, _ in rows:
                if size <= INLINE_BYTES:  # what was larger before leaves no file behind
                    object_path(self.path, name).unlink(missing_ok=True)

        self.index.write(write)

    def keys(self) -> list[str]:
        """Return every key."""
        return [key for key, _ in self._entries()]

    def summary(self) -> dict[str, Any]:
        """Return the folder, and its entries and bytes in all and by kind."""
        kinds: dict[str, dict[str, int]] = {}
        for key, size in self._entries():
            kind = kinds.setdefault(kind_of(key), {"entries": 0, "bytes": 0})
            kind["entries"] += 1
            kind["bytes"] += size if isinstance(size, int) else 0
        total = {name: sum(kind[name] for kind in kinds.values()) for name in ("entries", "bytes")}
        return {"folder": str(self.path), **total, "kinds": dict(sorted(kinds.items()))}

    def verify(self, progress: Progress) -> list[str]:
        """Read every entry; return the keys of damaged ones, `INDEX` first where the index is one.

        Where the folder can be written, a damaged index is made again, damaged entries are dropped, and files that the
        index lacks are found again.
        """
        if not self.index.exists():
            return []
        try:
            damaged = [] if self.index.check() else [INDEX]
            names = self.index.read(lambda index: index.execute("SELECT rowid FROM entries").fetchall())
        except DamagedIndexError:
            return [INDEX]
        with progress(f"verifying {self.path}", len(names)) as advance:
            for (number,) in names:
                damaged += self._checked(number)
                advance()
        if self.index.may_write():
            self.index.write(self._find_again)
        return damaged

    def clear(self) -> None:
        """Remove every entry and give the space back."""

        def remove() -> None:
            for pattern in ("objects/*", "damaged-*"):
                for path in self.path.glob(pattern):
                    path.unlink(missing_ok=True)

        self.index.reset(remove)

    def _entries(self) -> list[tuple[str, Any]]:
        """Return key and bytes of every entry; a folder that is not there, or whose index is lost, has none."""
        if not self.index.exists():
            return []
        try:
            rows = self.index.read(lambda index: index.execute("SELECT key, bytes FROM entries").fetchall())
        except DamagedIndexError:
            return []
        return [(str(key), size) for key, size in rows]

    def _checked(self, number: int) -> list[str]:
        """Return the key of an entry if it is damaged, which is dropped where the folder can be written."""
        row = self.index.read(lambda index: _entry(index, "rowid", number))
        if row is None or self._whole(row):  # or another process has dropped it
            return []
        if self.index.may_write():
            self.index.write(lambda index: self._drop_damaged(index, "rowid", number))
        return [str(row[1])]

    def _whole(self, row: tuple[Any, ...]) -> bool:
        """Whether an entry and its file are as they were written."""
        if not sound_row(row) or row[4] is not None:
            return sound_row(row)
        name, key, size, checksum, _ = row
        data = self._object(name)
        return len(data) == size and (digest(data) == checksum or key_of(data) == key)

    def _drop_damaged(self, index: sqlite3.Connection, column: str, value: Any) -> None:
        """Drop an entry with its file, unless another process has written it again."""
        row = _entry(index, column, value)
        if row is not None and not self._whole(row):
            index.execute(f"DELETE FROM entries WHERE {column} = ?", (value,))
            if row[0] == digest(str(row[1])):  # a damaged name leads nowhere else
                object_path(self.path, row[0]).unlink(missing_ok=True)

    def _find_again(self, index: sqlite3.Connection) -> None:
        known = {name for (name,) in index.execute("SELECT name FROM entries")}
        index.executemany(INSERT, [row for row in rows_of_objects(self.path) if row[0] not in known])

    def _object(self, name: str) -> bytes:
        try:
            return object_path(self.path, name).read_bytes()
        except FileNotFoundError:
            return b""

    def _lost(self, what: str) -> None:
        warnings.warn(f"{what}; it is computed again.", stacklevel=4)


def _entry(index: sqlite3.Connection, column: str, value: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = index.execute(
        f"SELECT {COLUMNS} FROM entries WHERE {column} = ?", (value,)
    ).fetchone()
    return row
