"""Records by key in one folder, with read-only layers under it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from cimenv.core.config import digest
from cimenv.core.errors import StoreError
from cimenv.core.files import checked_path
from cimenv.core.progress import Progress, silent
from cimenv.core.store.faults import CACHE_VARIABLE, guarded
from cimenv.core.store.folder import Folder
from cimenv.core.store.record import Record


def default_root() -> Path:
    """Return the folder named by `CIMENV_CACHE`, else the user's cache folder.

    Raises:
        StoreError: neither is known.
    """
    return _absolute(os.environ.get(CACHE_VARIABLE) or None)


def _absolute(path: str | Path | None) -> Path:
    """Return a path that stays the same wherever the process goes; for None, that of the user's cache folder."""
    try:
        folder = Path(path or platformdirs.user_cache_dir("cimenv")).expanduser()
        if folder.parts[:1] == ("~",):  # what older platformdirs return where the system knows no home
            raise RuntimeError
        return folder.absolute()
    except RuntimeError:
        where = path or "the cache"
        raise StoreError(f"No home folder is known for {where}; set {CACHE_VARIABLE} or HOME to a folder.") from None
    except FileNotFoundError:
        raise StoreError(f"The folder that {path} is relative to is gone; give an absolute path.") from None


class Store:
    """Records by key in one folder, with read-only layers under it.

    Args:
        root: the folder; default `CIMENV_CACHE`, else the user's cache folder. Made on first write. A relative one
            belongs to the folder that the process is in now.
        layers: read-only store folders looked into when `root` lacks a key.

    Raises:
        StoreError: no folder is known; on use, it cannot be made, read or written, or another process locks it.
    """

    def __init__(self, root: str | Path | None = None, layers: Sequence[str | Path] = ()) -> None:
        self.root = _absolute(checked_path("store", root)) if root is not None else default_root()
        self.layers = tuple(_absolute(layer) for layer in layers)
        self._own = Folder(self.root, writable=True)
        self._below = [Folder(layer, writable=False) for layer in self.layers]
        self._unkept: dict[str, Record] = {}

    def __del__(self) -> None:
        if hasattr(self, "_below"):  # else its constructor raised
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "layers": self.layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"], state["layers"])  # type: ignore[misc]

    def get(self, key: str) -> Record | None:
        """Return the record of `key`, or None when it is absent or damaged (with a warning)."""
        for folder in (self._own, *self._below):
            with guarded(folder.path, "read"):
                record = folder.get(key)
            if record is not None:
                return record
        return self._unkept.get(key)

    def put(self, key: str, record: Record) -> None:
        """Write a record; a reader sees all of it or nothing."""
        self.put_many([(key, record)])

    def put_many(self, items: Iterable[tuple[str, Record]]) -> None:
        """Write many records in one transaction."""
        with guarded(self.root, "written"):
            self._own.put(items)
        for key, record in list(self._unkept.items()):  # they have been warned of, and some may find room
            with suppress(StoreError), guarded(self.root, "written"):
                self._own.put([(key, record)])
                del self._unkept[key]

    def keep(self, items: Iterable[tuple[str, Record]], what: str = "a result") -> None:
        """Write finished work; what cannot be written stays in memory, with a warning, and goes with the next write.

        Args:
            items: keys and records.
            what: names the work in the warning.
        """
        made = dict(items)
        try:
            self.put_many(made.items())
        except StoreError as error:
            self._unkept.update(made)
            warnings.warn(f"{what[:1].upper()}{what[1:]} is finished, but kept in memory only: {error}", stacklevel=2)

    def once(self, key: str, compute: Callable[[], Record], what: str = "a result") -> Record:
        """Return the record of `key`, computing it if it is absent; two processes compute it once.

        What was computed is returned also where it cannot be written; see `keep`.

        Args:
            key: canonical text of everything the record depends on.
            compute: makes the record.
            what: names the work for the process that has to wait for another one.
        """
        record = self.get(key)
        if record is not None:
            return record
        with self._lock(key, what):
            record = self.get(key)
            if record is None:
                record = compute()
                self.keep([(key, record)], what)
        return record

    def close(self) -> None:
        """Close this process's connections; the next use opens them again."""
        for folder in (self._own, *self._below):
            folder.index.close()

    def info(self) -> dict[str, Any]:
        """Return the folder, its entries and bytes in all and by kind, and the same of every read-only layer."""
        with guarded(self.root, "read"):
            summary = self._own.summary()
        return {**summary, "layers": [self._of_layer(layer) for layer in self._below]}

    def keys(self) -> list[str]:
        """Return every key of this store (not of its layers)."""
        with guarded(self.root, "read"):
            return self._own.keys()

    def verify(self, progress: Progress = silent) -> list[str]:
        """Read every entry; drop damaged ones and leftovers of killed writers; return the dropped keys.

        A damaged index comes first, as `INDEX`: it is made again from what of it can be read and from the files.
        """
        with guarded(self.root, "read"), _quiet():
            return self._own.verify(progress)

    def verify_layers(self, progress: Progress = silent) -> list[tuple[Path, str]]:
        """Read every entry of the read-only layers; return folder and key of damaged ones, which stay there."""
        damaged = []
        for layer in self._below:
            with guarded(layer.path, "read"), _quiet():
                damaged += [(layer.path, key) for key in layer.verify(progress)]
        return damaged

    def clear(self) -> None:
        """Remove every entry of this store (never of its layers) and give the space back."""
        self._unkept.clear()
        with guarded(self.root, "written"):
            self._own.clear()

    def _of_layer(self, layer: Folder) -> dict[str, Any]:
        with guarded(layer.path, "read"):
            return layer.summary()

    @contextmanager
    def _lock(self, key: str, what: str) -> Iterator[None]:
        with guarded(self.root, "written"):
            folder = self.root / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{digest(key)}.lock")
            try:
                lock.acquire(timeout=1.0)
            except Timeout:
                if not os.access(folder, os.W_OK):  # some systems say so of a lock that cannot be had at all
                    raise PermissionError(f"no lock can be made in {folder}") from None
                warnings.warn(f"Waiting for another process that computes {what}.", stacklevel=4)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of what is reported anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
