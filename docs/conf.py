"""Sphinx settings: the guide in Markdown, an API reference from docstrings, one page an experiment from its results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import pages  # noqa: E402 - found by the path above

import cimenv  # noqa: E402

project = "cimenv"
author = "The cimenv developers"
project_copyright = "The cimenv developers, MIT licence"
release = cimenv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # what docstrings hold between single backticks
suppress_warnings = ["myst.header"]  # pages made from a README may skip a level
exclude_patterns: list[str] = []

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"cimenv {release}"


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx reads them; show the fields of configurations."""
    app.connect("builder-inited", lambda _: pages.write(HERE))
    app.connect("autodoc-process-docstring", pages.describe_fields)
    app.connect("autodoc-process-signature", pages.short_signature)
    app.connect("autodoc-skip-member", pages.skip_member)
