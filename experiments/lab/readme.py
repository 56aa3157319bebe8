"""Write the generated tables into the README: `python -m experiments.lab.readme` (make readme).

What stands between `<!-- NAME -->` and `<!-- end -->` is replaced by the file that NAME, a path, names.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"(<!-- (results/\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return the README's text with every marked part replaced."""
    return MARKED.sub(lambda match: match[1] + (ROOT / match[2]).read_text() + match[3], text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
