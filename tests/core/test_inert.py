"""Text of a file does nothing where it is shown."""

import pytest

from cimenv.core.errors import ConfigError, DataError, UnknownNameError
from cimenv.core.inert import as_cell, in_figure, in_markdown, of_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("toy-4site", "toy-4site"),
        ("Größe σ = ½", "Größe σ = ½"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b2J", r"\x9b2J"),  # an escape sequence of eight bits
        ("left\u202eright", r"left\u202eright"),  # turns the direction of what follows
        ("\ud800", r"\ud800"),  # half a character, which no file can hold
        ("[red]text[/]", "[red]text[/]"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown
    for error in (ConfigError(text), DataError(text), UnknownNameError("task", text, ["a"])):
        assert str(error).isprintable() and printable(" ".join(text.split())) in str(error)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", r"'\t=1+1"),
        ("-0.25", "-0.25"),
        ("+inf", "+inf"),
        ("0 1 2", "0 1 2"),
        ("'quoted", "''quoted"),
        ("a=b", "a=b"),
    ],
)
def test_a_spreadsheet_computes_no_cell(text, cell):
    assert as_cell(text) == cell
    assert of_cell(cell) == printable(text)


def test_a_figure_sets_no_formula_and_a_table_keeps_its_cells():
    assert in_figure("$a$\n") == r"\$a\$\n"
    assert in_markdown("a|b<script>[x](y)`") == r"a\|b\<script\>\[x\](y)\`"
