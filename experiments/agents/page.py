"""One self-contained HTML page: a table that sorts, and figures as SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = re.compile(r"(?<!\\)\|")  # between cells; an escaped bar belongs to one
ESCAPED = re.compile(r"\\([\\|<>\[\]`])")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; font-size: .85rem; } td, th { padding: .25rem .6rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { cursor: pointer; border-bottom: 2px solid #888; }
tr:nth-child(even) td { background: #f5f5f5; } .wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
"""
SORT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const order = head.dataset.order = head.dataset.order === "up" ? "down" : "up";
  const value = row => { const text = row.cells[column].textContent, number = parseFloat(text);
    return Number.isNaN(number) ? (column ? Infinity : text) : number; };
  const compare = (a, b) => (a > b ? 1 : a < b ? -1 : 0) * (order === "up" ? 1 : -1);
  [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach(row => body.append(row));
});
"""


def page(title: str, text: str, figures: Mapping[str, Figure]) -> str:
    """Return a page that needs no other file.

    Args:
        title: of the page.
        text: paragraphs and tables in Markdown.
        figures: by heading.
    """
    parts = [f"<h2>{html.escape(name)}</h2>\n{_svg(figure)}" for name, figure in figures.items()]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{_of_markdown(text)}\n"
        + "\n".join(parts)
        + f"\n<script>{SORT}</script>\n</body>\n</html>\n"
    )


def _of_markdown(text: str) -> str:
    """Return headings, paragraphs and pipe tables as HTML; that is all that tables here use."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines[0].startswith("## "):
            parts.append(f"<h2>{_text(lines[0].removeprefix('## '))}</h2>")
            continue
        if not lines[0].startswith("|"):
            parts.append(re.sub(r"`([^`]+)`", r"<code>\1</code>", f"<p>{_text(' '.join(lines))}</p>"))
            continue
        head, _, *rows = ([_text(cell) for cell in CELLS.split(line.strip("|"))] for line in lines)
        cells = "".join(f"<th>{cell}</th>" for cell in head)
        body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(
            f'<div class="wide"><table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
        )
    return "\n".join(parts)


def _text(markdown: str) -> str:
    """Return the text of a piece of Markdown as HTML: its escaped characters are themselves, and inert."""
    return html.escape(ESCAPED.sub(r"\1", markdown.strip()))


def _svg(figure: Figure) -> str:
    """Return a figure as SVG: the same text for the same figure."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "cimenv"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
