"""A CSV file notices changed digits, survives a kill, and reads what earlier versions wrote."""

import csv
import io

import numpy as np
import pytest

from cimenv.core.checked_rows import appending, read_rows, with_checksums, write_rows
from cimenv.core.errors import ConfigError

COLUMNS = ("name", "value", "placement")
ROWS = [("a", 0.1 + 0.2, "0 1 2"), ("=cmd|' /C calc'!A0", -1.5, "3"), ('a,"b"\nc', 1e-300, ""), ("'", 0, "-2+3")]


@pytest.fixture
def path(tmp_path):
    write_rows(tmp_path / "rows.csv", COLUMNS, ROWS)
    return tmp_path / "rows.csv"


def test_rows_come_back_and_no_spreadsheet_computes_one(path):
    found = read_rows(path)
    assert [row["name"] for row in found] == ["a", "=cmd|' /C calc'!A0", 'a,"b"\\nc', "'"]
    assert [float(row["value"]) for row in found] == [0.1 + 0.2, -1.5, 1e-300, 0]
    assert [row["placement"] for row in found] == ["0 1 2", "3", "", "-2+3"]
    text = path.read_text()
    assert text.count("\n") == 5 and text.startswith("name,value,placement,check\n")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))] == ["-1.5"]


def test_every_changed_digit_is_noticed(path):
    text = path.read_text()
    places = [k for k, c in enumerate(text) if c.isdigit()]
    assert len(places) > 40
    for k in places:
        path.write_text(f"{text[:k]}{(int(text[k]) + 1) % 10}{text[k + 1 :]}")
        with pytest.raises(ConfigError, match=r"Line \d of .*rows.csv is not as it was written"):
            read_rows(path)


def test_other_changes_of_a_row_are_noticed_too(path):
    text, generator = path.read_text(), np.random.default_rng(0)
    for k in generator.integers(text.index("\n") + 1, len(text) - 1, 50):
        path.write_text(text[:k] + ("x" if text[k] != "x" else "y") + text[k + 1 :])
        with pytest.raises(ConfigError, match="not as it was written"):
            read_rows(path)


def test_appending_goes_on_after_a_kill(path):
    whole = path.read_text()
    cut = whole.index("=cmd") + 3
    path.write_text(whole[:cut])
    append = appending(path, COLUMNS)
    for row in ROWS[1:]:
        append(row)
    assert path.read_text() == whole
    path.write_text(whole[:8])  # within the first line
    append = appending(path, COLUMNS)
    for row in ROWS:
        append(row)
    assert path.read_text() == whole
    with pytest.raises(ConfigError, match="other columns than a,b"):
        appending(path, ("a", "b"))
    assert path.read_text() == whole


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_without_checksums_is_read_with_a_notice_and_gets_them(tmp_path, end):
    path = tmp_path / "old.csv"
    path.write_bytes(f'name,value,placement{end}"a, b",0.5,0 1{end}c,1'.encode())
    with pytest.warns(UserWarning, match=r"old.csv has no checksums: .*add_checksums adds them") as caught:
        assert read_rows(path) == [{"name": "a, b", "value": "0.5", "placement": "0 1"}]
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    appending(path, COLUMNS)(("d", 2, "1"))
    assert [row["name"] for row in read_rows(path)] == ["a, b", "d"]
    before = path.read_bytes()
    assert not with_checksums(path) and path.read_bytes() == before
    path.write_text("a,b\n1\n")
    with pytest.raises(ConfigError, match="more or fewer cells"):
        with_checksums(path)
