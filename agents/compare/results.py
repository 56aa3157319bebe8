"""The runs behind tables and figures, as they stand in runs.csv and trials.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.statistics import Scores
from agents.study import Row
from cimenv.core.errors import ConfigError

RUNS, TRIALS = "runs.csv", "trials.csv"
REGRET = "regret_"


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file.

    Raises:
        ConfigError: it is not there; the message names the command that writes it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; python -m agents.compare writes it.") from None


class Results:
    """Regret of every run after some numbers of distinct evaluations.

    Args:
        runs: rows of runs.csv.
        trials: rows of trials.csv.

    Raises:
        ConfigError: there are no runs.
    """

    def __init__(self, runs: Sequence[Row], trials: Sequence[Row]) -> None:
        if not runs:
            raise ConfigError("runs.csv has no rows; python -m agents.compare adds some.")
        self.points = [int(name.removeprefix(REGRET)) for name in runs[0] if name.startswith(REGRET)]
        self.tables = list(dict.fromkeys(row["table"] for row in runs))
        self.seeds = sorted({int(row["seed"]) for row in runs})
        self.trials = list(trials)
        self._runs = {(row["contender"], row["table"], int(row["seed"])): row for row in runs}
        names = dict.fromkeys(row["contender"] for row in runs)
        whole = len(self.tables) * len(self.seeds)
        self.contenders = [name for name in names if sum(key[0] == name for key in self._runs) == whole]
        self.missing = [name for name in names if name not in self.contenders]

    @staticmethod
    def read(folder: Path) -> Results:
        """Return the results in a folder.

        Raises:
            ConfigError: they are not there.
        """
        trials = folder / TRIALS
        return Results(read_rows(folder / RUNS), read_rows(trials) if trials.exists() else [])

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
