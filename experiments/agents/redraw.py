"""Draw the comparison of searches and agents again: `python -m experiments.agents.redraw [FOLDER]`.

Reads the CSV files of results/agents (or of FOLDER) and writes table.md, targets.json, the PNG figures and index.html,
one page that needs no other file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cimenv.core.errors import CimenvError
from experiments.agents.report import write_report
from experiments.lab.folders import ROOT


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    if any(argument in ("-h", "--help") for argument in given):
        print(__doc__)
        return 0
    folder = Path(given[0]) if given else ROOT / "results/agents"
    try:
        write_report(folder)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    print((folder / "table.md").read_text())
    print(f"{folder / 'index.html'}: open it in a browser.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
