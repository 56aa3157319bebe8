"""Files of others: only regular ones of at most a stated size are read, whatever their names and headers promise."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
from pathlib import Path
from typing import Any

from cimenv.core.errors import CimenvError, ConfigError, brief

CONFIGURATION = 2**20  # bytes: of a YAML file that somebody wrote
WEIGHTS = 2**36  # bytes: of a file of weights
RECORD = 2**30  # bytes: of a results file, a table or a state, unpacked
UNPACKING = 2**28  # bytes that xz may hold beside what it unpacks; its highest preset needs a quarter
SMALL = 2**26  # bytes that a packed file of any size may unpack to
RATIO = 1000  # to which larger ones may be packed: tables reach 15, zeros 7,000
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def checked_path(name: str, path: Any) -> Path:
    """Return the path of a file or a folder, checked.

    Args:
        name: what the caller calls it.
        path: text or a path.

    Raises:
        ConfigError: it is neither, or no system can hold it.
    """
    if not isinstance(path, str | os.PathLike) or not str(path).strip() or "\0" in str(path):
        raise ConfigError(f"{name}: got {brief(path)}; give the path of a file or a folder.")
    return Path(path)


def read_bytes(path: str | Path, at_most: int, error: type[CimenvError] = ConfigError) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: the file; a link counts as what it leads to.
        at_most: bytes that it may hold; a larger one is refused before it is read.
        error: the kind of error to raise.

    Raises:
        OSError: the file is missing or may not be read; its `strerror` says which.
        CimenvError: it is no regular file, or larger.
    """
    _check(path, os.stat(path), at_most, error)  # before it is opened: a pipe would wait, a device may act
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor), at_most, error)  # again: another file may stand there by now
        data = file.read(at_most + 1)
    if len(data) > at_most:  # it grew, or the system keeps no size of it
        raise _too_large(path, len(data), at_most, error)
    return data


def read_text(path: str | Path, at_most: int, error: type[CimenvError] = ConfigError) -> str:
    """Return the UTF-8 text of a regular file; see `read_bytes`.

    Raises:
        OSError: the file is missing or may not be read.
        CimenvError: it is no regular file, larger, or no UTF-8.
    """
    try:
        return read_bytes(path, at_most, error).decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise error(f"{path} is no text in UTF-8 ({wrong.reason} at byte {wrong.start}); give a text file.") from None


def checked_file(path: str | Path, at_most: int, error: type[CimenvError] = ConfigError) -> int:
    """Return the bytes of a regular file that another library is going to read.

    Raises:
        OSError: the file is missing.
        CimenvError: it is no regular file, or larger than `at_most`.
    """
    status = os.stat(path)
    _check(path, status, at_most, error)
    return status.st_size


def digest_of_file(path: str | Path, at_most: int = WEIGHTS, error: type[CimenvError] = ConfigError) -> str:
    """Return the first 32 hexadecimal digits of the SHA-256 of a regular file; it is never in memory as a whole.

    Raises:
        OSError: the file is missing or may not be read.
        CimenvError: it is no regular file, or larger than `at_most`.
    """
    checked_file(path, at_most, error)
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            sha256.update(part)
    return sha256.hexdigest()[:32]


def unpacked(path: str | Path, data: bytes, at_most: int = RECORD, error: type[CimenvError] = ConfigError) -> bytes:
    """Return the unpacked bytes of an xz file, and stop where they are more than `at_most` or than such files hold.

    Raises:
        CimenvError: the data are damaged, cut short, or unpack to more.
    """
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=UNPACKING)
    at_most = min(at_most, max(SMALL, RATIO * len(data)))
    try:
        whole = stream.decompress(data, max_length=at_most + 1)
        if not stream.eof and len(whole) <= at_most:
            raise lzma.LZMAError("it ends within its data")
    except lzma.LZMAError as wrong:
        raise error(f"{path} is damaged ({str(wrong).rstrip('.')}); make it again, and compress that by xz.") from None
    if len(whole) > at_most:
        raise error(f"{path} unpacks to more than {shown(at_most)}; give a file that cimenv wrote.")
    if stream.unused_data:
        raise error(f"{path} is damaged (something follows its data); make it again, and compress that by xz.")
    return whole


def shown(size: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


def _check(path: str | Path, status: os.stat_result, at_most: int, error: type[CimenvError]) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "no regular file")
        raise error(f"{path} is {kind}; give a regular file.")
    if status.st_size > at_most:
        raise _too_large(path, status.st_size, at_most, error)


def _too_large(path: str | Path, size: int, at_most: int, error: type[CimenvError]) -> CimenvError:
    return error(f"{path} holds {shown(size)} and may hold {shown(at_most)} at most; give the file that is meant.")
