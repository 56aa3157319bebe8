"""The runs behind tables and figures, as they stand in runs.csv and trials.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cimenv.core.checked_rows import read_rows
from cimenv.core.errors import ConfigError
from cimenv.core.inert import in_markdown
from experiments.lab.rows import Row
from experiments.lab.statistics import Scores

RUNS, TRIALS, TABLES, TESTED = "runs.csv", "trials.csv", "tables.csv", "tested.csv"
REGRET = "regret_"
COMMAND = "python -m experiments.agents"


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a CSV file, their text as it stands in a Markdown table.

    Raises:
        ConfigError: it is not there (the message names the command that writes it), or not as it was written.
    """
    try:
        return [{name: in_markdown(cell) for name, cell in row.items()} for row in read_rows(path)]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {COMMAND} writes it.") from None


def read_groups(folder: Path) -> dict[str, Results]:
    """Return the results in a folder by group of tables.

    Raises:
        ConfigError: they are not there.
    """
    runs = rows_of(folder / RUNS)
    trials, tables, tested = (
        rows_of(folder / name) if (folder / name).exists() else [] for name in (TRIALS, TABLES, TESTED)
    )
    if not runs:
        raise ConfigError(f"{folder / RUNS} has no rows; {COMMAND} adds some.")
    groups = dict.fromkeys(row.get("group", "") for row in runs)

    def of(group: str, rows: list[Row]) -> list[Row]:
        return [row for row in rows if row.get("group", "") == group]

    try:
        return {group: Results(of(group, runs), of(group, tables), of(group, tested), trials) for group in groups}
    except (KeyError, ValueError):
        raise ConfigError(f"{folder} holds files that another command wrote; restore those of {COMMAND}.") from None


class Results:
    """Regret of every run after some numbers of distinct evaluations.

    Args:
        runs: rows of runs.csv, at least one.
        about: rows of tables.csv.
        tested: rows of tested.csv.
        trials: rows of trials.csv.
    """

    def __init__(self, runs: Sequence[Row], about: Sequence[Row], tested: Sequence[Row], trials: Sequence[Row]) -> None:
        self.points = [int(name.removeprefix(REGRET)) for name in runs[0] if name.startswith(REGRET)]
        self.tables = list(dict.fromkeys(row["table"] for row in runs))
        self.seeds = sorted({int(row["seed"]) for row in runs})
        self.about, self.tested, self.trials = list(about), list(tested), list(trials)
        self._runs = {(row["contender"], row["table"], int(row["seed"])): row for row in runs}
        names = dict.fromkeys(row["contender"] for row in runs)
        whole = len(self.tables) * len(self.seeds)
        self.contenders = [name for name in names if sum(key[0] == name for key in self._runs) == whole]
        self.missing = [name for name in names if name not in self.contenders]

    def regret(self, contender: str, point: int) -> Scores:
        """Return the regret after a number of evaluations, `[seeds, tables]`."""
        return self._column(contender, f"{REGRET}{point}")

    def evaluations_to(self, contender: str, share: float) -> Scores:
        """Return the evaluations that a share of the optimum took, `[seeds, tables]`; infinite where it was missed."""
        return self._column(contender, f"to_{share:g}")

    def tuned(self, contender: str) -> Scores:
        """Return the regret of every trial of a contender's tuning, the best first; empty without."""
        return np.sort([float(row["regret"]) for row in self.trials if row["contender"] == contender])

    def _column(self, contender: str, name: str) -> Scores:
        return np.array(
            [[float(self._runs[contender, table, seed][name] or "inf") for table in self.tables] for seed in self.seeds]
        )
