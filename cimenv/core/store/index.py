"""The index of one folder: an SQLite file that any process may find damaged or missing, and one of them makes again.

Connections are opened, and rows written, under the folder's lock; so is a new index put in the place of a damaged one.
Readers notice that the file is another one, and open that.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from cimenv.core.config import digest
from cimenv.core.store.objects import Row, drop_leftovers, rows_of_objects

INDEX = "index.sqlite"  # also what `verify` calls a damaged one
LOCK_S = 60.0  # a transaction takes milliseconds; who waits longer waits for a process that hangs
SCHEMA = "CREATE TABLE entries (name TEXT PRIMARY KEY, key TEXT, bytes INTEGER, checksum TEXT, payload BLOB)"
COLUMNS = "name, key, bytes, checksum, payload"
INSERT = "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)"
HEADER = 100  # bytes of an SQLite file that describe it
FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the latter where the words of the error itself are damaged
Identity = tuple[int, int]
T = TypeVar("T")

_OPEN: dict[int, sqlite3.Connection] = {}  # held here, so that no collector finalizes one before its index closes it
_INHERITED: list[Any] = []  # connections of a process that forked this one: to close them would unlock its files


class DamagedIndexError(Exception):
    """An index is damaged where nothing can be written."""


@dataclass(frozen=True)
class _Opened:
    """A connection, the process that opened it (it must not cross a fork) and the file it is of."""

    process: int
    file: Identity
    connection: sqlite3.Connection
    writes: bool


class Index:
    """The index of a folder.

    Args:
        folder: where it lies.
        writable: whether it may be made, repaired and written; a read-only layer's may not.
    """

    def __init__(self, folder: Path, writable: bool) -> None:
        self.folder, self.path, self.writable = folder, folder / INDEX, writable
        self._mutex = threading.Lock()
        self._opened: _Opened | None = None

    def exists(self) -> bool:
        """Return whether there is anything to read, an index or files of which one can be made.

        Raises:
            OSError: the folder cannot be looked into.
        """
        for path in (self.path, self.folder / "objects") if self.writable else (self.path,):
            with suppress(FileNotFoundError):
                path.stat()
                return True
        return False

    def may_write(self) -> bool:
        """Return whether the folder may be written."""
        return self.writable and os.access(self.folder, os.W_OK)

    def read(self, statement: Callable[[sqlite3.Connection], T]) -> T:
        """Run a statement that only reads; a damaged index is rebuilt, and the statement repeated.

        Raises:
            DamagedIndexError: it is damaged, and nothing can be written here.
            OSError, sqlite3.Error: it cannot be read.
        """
        with self._mutex:
            try:
                return statement(self._connection())
            except FAULTS as error:
                self._mend(error)
            return statement(self._connection())

    def write(self, statement: Callable[[sqlite3.Connection], T]) -> T:
        """Run one transaction under the folder's lock, so that no other process writes meanwhile.

        Raises:
            OSError, sqlite3.Error: it cannot be written.
        """
        with self._mutex, self._locked():
            try:
                return self._transaction(statement)
            except FAULTS as error:
                if _from_outside(error, self.path) or not self._repaired():
                    raise
            return self._transaction(statement)

    def check(self) -> bool:
        """Return whether every page is sound; an index that is not is made again where that may be."""
        if not self.path.exists():
            return True
        with self._mutex:
            if not self.may_write():
                return _sound(self.path, beside_writers=self.writable)
            with self._locked():
                return not self._repaired()

    def reset(self, then: Callable[[], None]) -> None:
        """Put an empty index in the place of any, and do what belongs to it under the same lock."""
        with self._mutex, self._locked():
            self._replace(())
            then()

    def close(self) -> None:
        """Close this process's connection; the next use opens it again."""
        with self._mutex:
            self._drop()

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if opened.process != os.getpid():
            _INHERITED.append(opened)
            return
        _OPEN.pop(id(opened.connection), None)
        with suppress(sqlite3.Error):
            opened.connection.close()

    def _hold(self, connection: sqlite3.Connection, writes: bool) -> _Opened:
        _OPEN[id(connection)] = connection
        self._opened = opened = _Opened(os.getpid(), _identity(self.path), connection, writes)
        return opened

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock.

        Raises:
            filelock.Timeout: another process has held it for `LOCK_S`.
            OSError: the folder cannot be written.
        """
        if not self.writable:
            raise DamagedIndexError(str(self.path))
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / "index.lock").acquire(timeout=LOCK_S, poll_interval=0.005):
            yield

    def _connection(self) -> sqlite3.Connection:
        """Return a connection to the file that is there now."""
        opened = self._opened
        if opened is None or (opened.process, opened.file) != (os.getpid(), _identity(self.path)):
            opened = self._open()
        return opened.connection

    def _transaction(self, statement: Callable[[sqlite3.Connection], T]) -> T:
        """Run a statement that writes; the folder's lock is held."""
        opened = self._opened
        if opened is None or not opened.writes or opened.process != os.getpid() or opened.file != _identity(self.path):
            opened = self._open_locked()
        with opened.connection as connection:
            return statement(connection)

    def _open(self) -> _Opened:
        if self.writable:
            try:
                with self._locked():
                    return self._open_locked()
            except (OSError, *FAULTS):  # a folder that cannot be written, or a full disk
                if not self.path.exists():
                    raise
        self._drop()
        return self._hold(_reading(self.path, self.writable), writes=False)

    def _open_locked(self) -> _Opened:
        self._drop()
        drop_leftovers(self.folder)
        if not self.path.exists():
            self._make_again()
        try:
            connection = _connected(self.path)
        except FAULTS:
            if not self._repaired():
                raise
            connection = _connected(self.path)
        return self._hold(connection, writes=True)

    def _mend(self, error: Exception) -> None:
        """Make a damaged index again; where it is sound, the error was another one."""
        if _from_outside(error, self.path):
            raise error
        try:
            with self._locked():
                if not self._repaired():
                    raise error
        except (OSError, DamagedIndexError):
            if _sound(self.path, self.writable):
                raise error from None
            raise DamagedIndexError(str(self.path)) from None

    def _repaired(self) -> bool:
        """Make the index again unless it is sound: another process may have done so. The folder's lock is held."""
        self._drop()
        if self.path.exists() and _sound(self.path):
            return False
        self._make_again()
        return True

    def _make_again(self) -> None:
        damaged, rows = self.path.exists(), {row[0]: row for row in rows_of_objects(self.folder)}
        for row in _salvaged(self.path) if damaged else ():
            rows.setdefault(row[0], row)
        self._replace(rows.values())
        if damaged:
            warnings.warn(f"The index {self.path} is damaged; it is rebuilt from the files beside it.", stacklevel=2)
        elif rows:
            warnings.warn(f"The index {self.path} is missing; it is rebuilt from the files beside it.", stacklevel=2)

    def _replace(self, rows: Iterable[Row]) -> None:
        """Put a new index in the place of an old one; a process that is killed meanwhile leaves a `.tmp` file."""
        self._drop()
        temporary = self.path.with_name(f"{INDEX}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with closing(sqlite3.connect(temporary)) as connection, connection:
                connection.execute(SCHEMA)
                connection.executemany(INSERT, rows)
            for part in ("-wal", "-shm", "-journal"):
                self.path.with_name(INDEX + part).unlink(missing_ok=True)
            os.replace(temporary, self.path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sound_row(row: tuple[Any, ...]) -> bool:
    """Return whether a row of any index is as it was written, its file aside."""
    if [type(value) for value in row[:4]] != [str, str, int, str]:
        return False
    name, key, size, checksum, payload = row
    return name == digest(key) and (
        payload is None or (isinstance(payload, bytes) and len(payload) == size and digest(payload) == checksum)
    )


def _identity(path: Path) -> Identity:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _connected(path: Path) -> sqlite3.Connection:
    """Open an index to read and write, and look whether its table is there."""
    connection = sqlite3.connect(path, timeout=LOCK_S, check_same_thread=False)
    try:
        _prepared(connection)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"SELECT {COLUMNS} FROM entries LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _reading(path: Path, beside_writers: bool = True) -> sqlite3.Connection:
    """Open an index only to read: beside writers, which leaves files where they may be left, else as it lies there."""
    uri = path.absolute().as_uri()
    for mode in ("mode=ro", "mode=ro&immutable=1") if beside_writers else ("mode=ro&immutable=1",):
        connection = sqlite3.connect(f"{uri}?{mode}", uri=True, check_same_thread=False)
        try:
            _prepared(connection).execute(f"SELECT {COLUMNS} FROM entries LIMIT 1").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            if mode != "mode=ro":
                raise
        except FAULTS:
            connection.close()
            raise
        else:
            return connection
    raise AssertionError


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.text_factory = lambda text: text.decode(errors="replace")  # damaged text is for `sound_row` to find
    return connection


def _from_outside(error: Exception, path: Path) -> bool:
    """Whether locks, permissions or the disk are behind an error, rather than damage."""
    words = ("locked", "unable to open", "disk I/O", "readonly", "full")
    return _known_format(path) and any(word in str(error) for word in words)


def _known_format(path: Path) -> bool:
    """Whether a header names a format that SQLite reads and writes; another one looks like a lack of permission."""
    with path.open("rb") as file:
        versions = file.read(HEADER)[18:20]
    return len(versions) == 2 and {*versions} <= {1, 2}


def _sound(path: Path, beside_writers: bool = True) -> bool:
    """Whether no page of an index is damaged, and its table is as it was made.

    Raises:
        sqlite3.Error: it is locked or cannot be read, which is no damage.
    """
    if not _known_format(path):
        return False
    try:
        with closing(_reading(path, beside_writers)) as index:
            schema = index.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
            return schema == [(SCHEMA,)] and index.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
    except FAULTS as error:
        if _from_outside(error, path):
            raise
        return False


def _salvaged(path: Path) -> Iterator[Row]:
    """Yield the sound rows of a damaged index that hold their payload and can still be read, newer ones first."""
    with suppress(OSError):
        yield from _rows_left(path)
        yield from _rows_left(path, first_page=True)


def _rows_left(path: Path, first_page: bool = False) -> Iterator[Row]:
    copy = path.with_name(f"salvage.{uuid.uuid4().hex[:8]}.tmp")
    try:
        shutil.copyfile(path, copy)
        if first_page:
            _give_first_page(copy)
        else:
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(f"{INDEX}-wal"), copy.with_name(f"{copy.name}-wal"))
        with closing(_prepared(sqlite3.connect(copy))) as index:
            for (table,) in _readable(index, "SELECT name FROM sqlite_master WHERE type = 'table'"):
                for order in ("ASC", "DESC"):  # from both ends up to what is damaged
                    for row in _readable(index, f'SELECT * FROM "{table}" NOT INDEXED ORDER BY rowid {order}'):
                        if len(row) == 5 and row[4] is not None and sound_row(row):
                            yield row
    finally:
        for part in ("", "-wal", "-shm", "-journal"):
            copy.with_name(copy.name + part).unlink(missing_ok=True)


def _readable(index: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with suppress(*FAULTS):
        yield from index.execute(query)


def _give_first_page(path: Path) -> None:
    """Give a copy of an index the first page of a new one, which describes it; the other pages stay."""
    fresh = path.with_name(f"fresh.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with closing(sqlite3.connect(fresh)) as index, index:
            index.execute(SCHEMA)
            size = int(index.execute("PRAGMA page_size").fetchone()[0])
        page = bytearray(fresh.read_bytes()[:size])
    finally:
        fresh.unlink(missing_ok=True)
    page[28:32] = (path.stat().st_size // size).to_bytes(4, "big")  # where the header tells the number of pages
    with path.open("r+b") as file:
        file.write(page)
