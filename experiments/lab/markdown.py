"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Return a table as Markdown.

    Args:
        head: names of the columns.
        rows: cells.
        words: how many columns at the left hold words; the others hold numbers.
    """
    marks = ["---"] * words + ["---:"] * (len(head) - words)
    lines = [_line(head), f"|{'|'.join(marks)}|", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
