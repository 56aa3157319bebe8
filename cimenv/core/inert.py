"""Text that others wrote, made inert for where it is shown: a terminal, a spreadsheet, a figure, a Markdown table."""

from __future__ import annotations

import re

FORMULA = tuple(
    "=+-@\t\r\uff1d\uff0b\uff0d\uff20"
)  # ASCII and full width, with which a spreadsheet takes a cell for something to compute
QUOTE = "'"  # before such a cell: it is text
MARKDOWN = re.compile(r"([\\|<>\[\]`])")


def printable(text: str) -> str:
    """Return one line in which control, escape and direction characters are written out, such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_cell(text: str) -> str:
    """Return one line that a spreadsheet shows as it is: what it would compute begins with a quote."""
    shown = printable(text)
    return f"{QUOTE}{shown}" if _is_formula(text) or shown.startswith(QUOTE) else shown


def of_cell(cell: str) -> str:
    """Return the text that `as_cell` wrote."""
    return cell.removeprefix(QUOTE)


def in_figure(text: str) -> str:
    """Return a label of a matplotlib figure in which no dollar begins a formula."""
    return printable(text).replace("$", r"\$")


def in_markdown(text: str) -> str:
    """Return the text of a cell of a Markdown table: no cell ends within it, no tag or link begins."""
    return MARKDOWN.sub(r"\\\1", printable(text))


def _is_formula(text: str) -> bool:
    if not text.startswith(FORMULA):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
