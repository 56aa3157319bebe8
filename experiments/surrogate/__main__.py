"""Does the learned surrogate rank placements that it has not seen? `python -m experiments.surrogate [TABLE ...]`.

From a few random placements of an enumerated table, by default of every one that ships, the regression of
`cimenv.search.surrogate` predicts the accuracy of all others. Writes ranking.csv (a row a table, number of placements
and draw), table.md and ranking.png into results/surrogate/.
"""

from __future__ import annotations

import sys

from cimenv.core.progress import bar
from cimenv.tasks.evaluators.table import shipped_tables
from experiments.lab.folders import results_of
from experiments.surrogate.measure import Ranking, rankings
from experiments.surrogate.report import text_of, write_results


def main(arguments: list[str]) -> None:
    """Run the experiment."""
    if any(argument.startswith("-") for argument in arguments):
        print(__doc__)
        return
    tables = arguments or shipped_tables()
    ranked: list[Ranking] = []
    with bar("tables", len(tables)) as advance:
        for table in tables:
            ranked += rankings(table)
            advance()
    write_results(ranked, results_of("surrogate"))
    print(text_of(ranked))


if __name__ == "__main__":
    main(sys.argv[1:])
