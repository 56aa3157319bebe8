"""Results in files: whole or not at all, by one process at a time, and refused in one sentence."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cimenv.core.errors import CimenvError, ConfigError

PART = ".part-"  # begins the name of a file that is being written
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def unwritable(path: str | Path, error: OSError) -> ConfigError:
    """Return the error that says that a file cannot be written."""
    reason = error.strerror or str(error) or type(error).__name__
    return ConfigError(f"Cannot write {path}: {reason}; give a file in a folder with room that you may write.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise any error of the system while a file is written as a ConfigError that names the file."""
    try:
        yield
    except OSError as error:
        raise error if isinstance(error, CimenvError) else unwritable(path, error) from None


@contextmanager
def disk_faults(where: str | Path) -> Iterator[None]:
    """Raise a full or broken disk or a lack of permission, wherever in long work it is met, as a ConfigError.

    Args:
        where: named where the system names no file.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, CimenvError) or error.errno not in FAULTS:
            raise
        raise unwritable(error.filename or where, error) from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the name to write a file under; it becomes `path` when it is done, and goes away when it is not.

    What is no regular file, such as /dev/stdout, is written itself; so is one in a folder where no other can be made.

    Raises:
        ConfigError: it cannot be written.
    """
    with writing(path):
        if path.exists() and not (path.is_file() and os.access(path.resolve().parent, os.W_OK)):
            yield path
            return
        target = path.resolve()  # a link stays one
        part = target.with_name(f"{PART}{target.name}")
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is either complete or what it was.

    Raises:
        ConfigError: it cannot be written.
    """
    with whole(path) as part:
        part.write_bytes(text.encode())


def append(path: Path, text: str) -> None:
    """Add text to a file; it is on disk when this returns.

    Raises:
        ConfigError: it cannot be written.
    """
    with writing(path), path.open("ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def only_process(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock file while no other process does.

    Args:
        path: the lock file; it stays, or processes that come and go could hold two of one name.
        taken: the sentence for a process that comes second.

    Raises:
        ConfigError: another process holds it, or the folder cannot be written.
    """
    lock = FileLock(path)
    with writing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not os.access(path.parent, os.W_OK):  # which some systems tell as a lock that is held
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
            raise ConfigError(taken) from None
    try:
        yield
    finally:
        lock.release()
