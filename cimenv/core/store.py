"""The store: every trained weight and every evaluation, once, on disk, safe against kills and races.

An SQLite index (WAL) holds keys, checksums and small payloads; larger payloads are safetensors files beside
it. A payload is written under a temporary name and renamed; its checksum is looked at on every read; a damaged
entry is reported and computed again. No pickle is written or read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from cimenv.core.config import canonical, digest
from cimenv.core.errors import StoreError
from cimenv.core.progress import Progress, silent

CACHE_VARIABLE = "CIMENV_CACHE"
LEFTOVER_S = 3600.0  # a temporary file older than an hour belongs to a killed writer
INLINE_BYTES = 32_768  # a smaller payload lives in the index itself: one file less per evaluation
INDEX = "index.sqlite"  # also what `verify` calls a damaged one

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Record:
    """What a key stands for: JSON values and arrays."""

    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def to_bytes(self, key: str) -> bytes:
        """Serialise as one safetensors blob that also names its key."""
        arrays = {name: np.ascontiguousarray(value) for name, value in self.arrays.items()}
        return save_tensors(arrays, metadata={"meta": canonical(self.meta), "key": key})

    @staticmethod
    def from_bytes(data: bytes) -> Record:
        """Read what `to_bytes` wrote."""
        return Record(json.loads(_header(data)["meta"]), load_tensors(data))


def _header(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(header["__metadata__"])


def kind_of(key: str) -> str:
    """Return the stage that a key names, such as `backbone` or `evaluation`; `other` where it names none."""
    try:
        return str(json.loads(key)["stage"])
    except (ValueError, TypeError, KeyError):
        return "other"


def default_root() -> Path:
    """Return the folder named by `CIMENV_CACHE`, else the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("cimenv"))


class Store:
    """Records by key in one folder, with read-only layers under it.

    Args:
        root: the folder; default `CIMENV_CACHE`, else the user's cache folder. Made on first write.
        layers: read-only store folders looked into when `root` lacks a key.

    Raises:
        StoreError: (on use) the folder cannot be made, read or written.
    """

    def __init__(self, root: str | Path | None = None, layers: Sequence[str | Path] = ()) -> None:
        self._connections: dict[tuple[int, Path], sqlite3.Connection] = {}
        self._mutex = threading.Lock()
        self.root = Path(root) if root is not None else default_root()
        self.layers = tuple(Path(layer) for layer in layers)

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "layers": self.layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], state["layers"])  # type: ignore[misc]

    def get(self, key: str) -> Record | None:
        """Return the record of `key`, or None when it is absent or damaged (with a warning)."""
        for folder in (self.root, *self.layers):
            record = self._read(folder, key)
            if record is not None:
                return record
        return None

    def put(self, key: str, record: Record) -> None:
        """Write a record; a reader sees all of it or nothing."""
        self.put_many([(key, record)])

    def put_many(self, items: Iterable[tuple[str, Record]]) -> None:
        """Write many records in one transaction."""
        with self._guarded("written"):
            rows = [self._row(key, record) for key, record in items]
            insert = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)"
            self._ask(self.root, lambda index: index.executemany(insert, rows))

    def once(self, key: str, compute: Callable[[], Record], what: str = "a result") -> Record:
        """Return the record of `key`, computing it if it is absent; two processes compute it once.

        Args:
            key: canonical text of everything the record depends on.
            compute: makes the record.
            what: names the work for the process that has to wait for another one.
        """
        found = self.get(key)
        if found is not None:
            return found
        with self._lock(key, what):
            found = self.get(key)
            if found is None:
                found = compute()
                self.put(key, found)
        return found

    def close(self) -> None:
        """Close this process's connections; the next use opens them again."""
        with self._mutex:
            for place in [place for place in self._connections if place[0] == os.getpid()]:
                self._connections.pop(place).close()

    def info(self) -> dict[str, Any]:
        """Return the folder, its entries and bytes in all and by kind, and the same of every read-only layer."""
        with self._guarded("read"):
            return {**self._summary(self.root), "layers": [self._summary(layer) for layer in self.layers]}

    def keys(self) -> list[str]:
        """Return every key of this store (not of its layers)."""
        with self._guarded("read"):
            return [key for key, _ in self._entries(self.root)]

    def verify(self, progress: Progress = silent) -> list[str]:
        """Read every entry; drop damaged ones and leftovers of killed writers; return the dropped keys.

        A damaged index comes first, as `INDEX`: it is rebuilt from the files, and the entries that it held itself are
        lost.
        """
        index = self.root / INDEX
        with self._guarded("read"):
            damaged = [INDEX] if index.exists() and not _sound(index) else []
        for leftover in self.root.glob("objects/*.tmp"):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_S:
                leftover.unlink(missing_ok=True)
        return damaged + self._damaged(self.root, progress)

    def verify_layers(self, progress: Progress = silent) -> list[tuple[Path, str]]:
        """Read every entry of the read-only layers; return folder and key of damaged ones, which stay there."""
        return [(layer, key) for layer in self.layers for key in self._damaged(layer, progress)]

    def clear(self) -> None:
        """Remove every entry of this store (never of its layers) and give the space back."""
        with self._guarded("written"):
            self._ask(self.root, lambda index: index.execute("DELETE FROM entries"))
            self._ask(self.root, lambda index: index.execute("VACUUM"))
            for pattern in ("objects/*", "damaged-*"):
                for path in self.root.glob(pattern):
                    path.unlink(missing_ok=True)

    def _entries(self, folder: Path) -> list[tuple[str, int]]:
        """Return key and bytes of every entry of a folder; a folder that is not there has none."""
        try:
            folder.stat()
        except FileNotFoundError:
            return []
        if folder != self.root and not (folder / INDEX).exists():
            return []
        return self._ask(folder, lambda index: index.execute("SELECT key, bytes FROM entries").fetchall())

    def _summary(self, folder: Path) -> dict[str, Any]:
        kinds: dict[str, dict[str, int]] = {}
        for key, size in self._entries(folder):
            kind = kinds.setdefault(kind_of(key), {"entries": 0, "bytes": 0})
            kind["entries"] += 1
            kind["bytes"] += size
        total = {name: sum(kind[name] for kind in kinds.values()) for name in ("entries", "bytes")}
        return {"folder": str(folder), **total, "kinds": dict(sorted(kinds.items()))}

    def _damaged(self, folder: Path, progress: Progress) -> list[str]:
        """Return the keys whose payload is not what was written."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with self._guarded("read"):
                keys = [key for key, _ in self._entries(folder)]
            damaged = []
            with progress(f"verifying {folder}", len(keys)) as advance:
                for key in keys:
                    if self._read(folder, key) is None:
                        damaged.append(key)
                    advance()
        return damaged

    def _row(self, key: str, record: Record) -> tuple[str, str, int, str, bytes | None]:
        data = record.to_bytes(key)
        name, checksum = digest(key), digest(data)
        if len(data) <= INLINE_BYTES:
            return name, key, len(data), checksum, data
        target = self.root / "objects" / f"{name}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return name, key, len(data), checksum, None

    def _read(self, folder: Path, key: str) -> Record | None:
        with self._guarded("read"):
            if not (folder / INDEX).exists():
                return None
        name = digest(key)
        with self._guarded("read"):
            select = "SELECT checksum, payload FROM entries WHERE name = ?"
            row = self._ask(folder, lambda index: index.execute(select, (name,)).fetchone())
            if row is None:
                return None
            try:
                data = row[1] if row[1] is not None else (folder / f"objects/{name}.safetensors").read_bytes()
            except FileNotFoundError:
                data = b""
        try:
            if digest(data) == row[0]:
                return Record.from_bytes(data)
        except (SafetensorError, ValueError, KeyError):
            pass
        warnings.warn(f"Store entry {name} in {folder} is damaged; it is computed again.", stacklevel=4)
        if folder == self.root:
            delete = "DELETE FROM entries WHERE name = ? AND checksum = ?"
            with self._guarded("written"):
                self._ask(folder, lambda index: index.execute(delete, (name, row[0])))
        return None

    @contextmanager
    def _lock(self, key: str, what: str) -> Iterator[None]:
        with self._guarded("written"):
            folder = self.root / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{digest(key)}.lock")
            try:
                lock.acquire(timeout=1.0)
            except Timeout:
                warnings.warn(f"Waiting for another process that computes {what}.", stacklevel=4)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _guarded(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"The cache folder {self.root} cannot be {verb} ({error}); "
                f"free some space or set {CACHE_VARIABLE} to a folder you can write."
            ) from None

    def _ask(self, folder: Path, statement: Callable[[sqlite3.Connection], Any]) -> Any:
        """Run one transaction; an index found damaged on the way is rebuilt and asked again."""
        try:
            with self._mutex, self._index(folder) as index:
                return statement(index)
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError or folder != self.root:
                raise
        with self._mutex, FileLock(folder / "rebuild.lock"):
            broken = self._connections.pop((os.getpid(), folder), None)
            if broken is not None:
                broken.close()
            if not _sound(folder / INDEX):
                self._connections[os.getpid(), folder] = self._rebuilt(folder / INDEX)
        with self._mutex, self._index(folder) as index:
            return statement(index)

    @contextmanager
    def _index(self, folder: Path) -> Iterator[sqlite3.Connection]:
        place = (os.getpid(), folder)  # a connection must not cross a fork
        if place not in self._connections:
            self._connections[place] = self._opened(folder)
        with self._connections[place] as connection:
            yield connection

    def _opened(self, folder: Path) -> sqlite3.Connection:
        if folder != self.root:
            uri = f"{(folder / INDEX).resolve().as_uri()}?mode=ro&immutable=1"
            return sqlite3.connect(uri, uri=True, check_same_thread=False)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / INDEX
        try:
            return _connected(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
        with FileLock(folder / "rebuild.lock"):
            try:
                return _connected(path)
            except sqlite3.DatabaseError:
                return self._rebuilt(path)

    def _rebuilt(self, path: Path) -> sqlite3.Connection:
        warnings.warn(f"The index {path} is damaged; it is rebuilt from the files beside it.", stacklevel=6)
        for part in path.parent.glob(f"{INDEX}*"):
            os.replace(part, part.with_name(f"damaged-{uuid.uuid4().hex[:8]}-{part.name}"))
        connection = _connected(path)
        for file in path.parent.glob("objects/*.safetensors"):
            data = file.read_bytes()
            try:
                key = _header(data)["key"]
                load_tensors(data)
            except (SafetensorError, ValueError, KeyError):
                continue
            with connection:
                connection.execute(
                    "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, NULL)",
                    (digest(key), key, len(data), digest(data)),
                )
        return connection


def _sound(path: Path) -> bool:
    """Whether no page of an index is damaged: another process may have rebuilt it already."""
    try:
        with closing(_connected(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:  # locked or unreadable is not damaged
        raise
    except sqlite3.DatabaseError:
        return False


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS entries "
        "(name TEXT PRIMARY KEY, key TEXT, bytes INTEGER, checksum TEXT, payload BLOB)"
    )
    return connection
