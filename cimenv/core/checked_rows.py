"""CSV files of which every row has a checksum, so that changed digits are noticed.

The last column, `check`, is the beginning of the SHA-256 of what stands above all rows and of the row itself. A row is
one line, and text of others in it is inert (`cimenv.core.inert`). A file is written whole, or rows are appended to it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cimenv.core.errors import ConfigError
from cimenv.core.files import RECORD, read_text
from cimenv.core.inert import as_cell, of_cell
from cimenv.core.writing import append, write_whole, writing

CHECK = "check"
DIGITS = 8
CONVERT = "python -m experiments.lab.add_checksums"
Append = Callable[[Sequence[Any]], None]


class Checks:
    """The checksums of the rows below a head.

    Args:
        head: all that stands above the rows, its last end of line included.
    """

    def __init__(self, head: str) -> None:
        self._head = hashlib.sha256(head.encode())

    def of(self, row: str) -> str:
        """Return the checksum of a row."""
        whole = self._head.copy()
        whole.update(row.encode())
        return whole.hexdigest()[:DIGITS]

    def signed(self, row: str) -> str:
        """Return the row with its checksum, without an end of line."""
        return f"{row},{self.of(row)}"

    def row(self, line: str) -> str | None:
        """Return the row of a line without its checksum, or None where that does not fit."""
        row, comma, check = line.rpartition(",")
        return row if comma and check == self.of(row) else None


def unchecked(path: Path) -> None:
    """Say that a file has no checksums."""
    warnings.warn(f"{path} has no checksums: changed digits cannot be noticed; {CONVERT} adds them.", stacklevel=3)


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a whole file.

    Raises:
        ConfigError: it cannot be written.
    """
    head = _head(columns)
    checks = Checks(head)
    write_whole(path, head + "".join(f"{checks.signed(_line(row))}\n" for row in rows))


def appending(path: Path, columns: Sequence[str]) -> Append:
    """Return a function that appends a row; a new file gets its first line, an old one loses an unfinished row.

    A file that an earlier version wrote, without checksums, gets them.

    Raises:
        ConfigError: the file has other columns, or cannot be written.
    """
    head = _head(columns)
    checks = Checks(head)
    with writing(path):
        if path.exists():
            _resumable(path, columns)
    if not path.exists() or not path.stat().st_size:
        append(path, head)
    return lambda row: append(path, f"{checks.signed(_line(row))}\n")


def _resumable(path: Path, columns: Sequence[str]) -> None:
    text = read_text(path, RECORD)
    whole = text[: text.rfind("\n") + 1]
    if not _head(columns).startswith(text) and _first_line(text) not in (_line(columns), _head(columns).strip()):
        raise _other_columns(path, columns)
    if whole != text:
        os.truncate(path, len(whole.encode()))
    if whole:
        with_checksums(path)


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Return the rows by column, without their checksums; what a kill left of the last row is no row.

    A file without checksums is read with a notice.

    Args:
        path: the file.
        columns: that it needs to have; default any.

    Raises:
        OSError: the file cannot be read.
        ConfigError: it is no regular file, too large, no text, of other columns, or a row is not as it was written.
    """
    text = read_text(path, RECORD)
    if "\n" not in text:  # killed within the first line
        return []
    names = _first_line(text).split(",")
    if columns is not None and _first_line(text) not in (_line(columns), _head(columns).strip()):
        raise _other_columns(path, columns)
    if names[-1] != CHECK:
        unchecked(path)
        return _plain(path, text)
    head, *lines = text.split("\n")
    checks, rows = Checks(f"{head}\n"), []
    for number, line in enumerate(lines[:-1], 2):
        row = checks.row(line)
        cells = _cells(row) if row is not None else []
        if len(cells) != len(names) - 1:
            raise ConfigError(
                f"Line {number} of {path} is not as it was written (its checksum does not fit); restore it, or delete "
                "the line to have it made again."
            )
        rows.append(dict(zip(names, map(of_cell, cells), strict=False)))
    return rows


def with_checksums(path: Path) -> bool:
    """Add checksums to a file that has none; return whether it had none.

    Raises:
        OSError: the file cannot be read or written.
        ConfigError: it is no CSV file with one line of names.
    """
    text = read_text(path, RECORD)
    if _first_line(text).split(",")[-1] == CHECK:
        return False
    rows = _plain(path, text)
    columns = next(csv.reader([_first_line(text)]))
    write_rows(path, columns, ([row[name] for name in columns] for row in rows))
    return True


def _other_columns(path: Path, columns: Sequence[str]) -> ConfigError:
    return ConfigError(f"{path} has other columns than {_line(columns)}; give another file or delete it.")


def _head(columns: Sequence[str]) -> str:
    return f"{_line([*columns, CHECK])}\n"


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].rstrip("\r")


def _line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([as_cell(v) if isinstance(v, str) else v for v in values])
    return line.getvalue()


def _cells(row: str) -> list[str]:
    try:
        return next(csv.reader([row], strict=True), [])
    except csv.Error:
        return []


def _plain(path: Path, text: str) -> list[dict[str, str]]:
    """Return the rows of a file without checksums."""
    whole = text[: text.rfind("\n") + 1]
    try:
        rows = list(csv.DictReader(io.StringIO(whole, newline=""), strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path} is no CSV file ({error}); give one that cimenv wrote.") from None
    if any(None in row or None in row.values() for row in rows):
        raise ConfigError(f"{path} is damaged: a row has more or fewer cells than the first line; restore it.")
    return rows
