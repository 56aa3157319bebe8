"""Faults of a cache folder, each as one sentence with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from cimenv.core.errors import StoreError
from cimenv.core.store.index import DamagedIndexError

CACHE_VARIABLE = "CIMENV_CACHE"
ELSEWHERE = f"set {CACHE_VARIABLE} to a folder you can write"
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def guarded(folder: Path, verb: str) -> Iterator[None]:
    """Raise what goes wrong while a folder is `read` or `written` as a StoreError."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, sqlite3.Error, DamagedIndexError, NotImplementedError) as error:
        raise StoreError(_sentence(folder, verb, error)) from None


def _sentence(folder: Path, verb: str, error: Exception) -> str:
    text = str(error)
    if isinstance(error, Timeout) or "locked" in text:
        return (
            f"The cache folder {folder} is locked: another process keeps it from being {verb} ({text}); wait for that "
            f"process or end it, or {ELSEWHERE}."
        )
    if isinstance(error, DamagedIndexError):
        return f"The cache folder {folder} cannot be {verb}: its index is damaged ({text}); delete it, or {ELSEWHERE}."
    if isinstance(error, NotImplementedError) or getattr(error, "errno", None) in (errno.ENOLCK, errno.ENOSYS):
        return f"The cache folder {folder} lies on a disk without file locks ({text}); {ELSEWHERE} on another disk."
    if getattr(error, "errno", None) in FORBIDDEN or "readonly" in text or "unable to open" in text:
        return f"The cache folder {folder} cannot be {verb}: no permission ({text}); grant it, or {ELSEWHERE}."
    return f"The cache folder {folder} cannot be {verb} ({text}); free some space or {ELSEWHERE}."
