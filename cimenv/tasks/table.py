"""Enumerated tables: every placement of a task in one file, and the evaluator that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError, PlacementError, UnknownNameError
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.enumeration_file import Enumeration, read_enumeration
from cimenv.tasks.jobs import Fidelity
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

SHIPPED_TABLES = Path(str(files("cimenv.tasks"))) / "tables"
SUFFIX = ".csv.xz"


def shipped_tables() -> list[str]:
    """Return the names of the tables that ship with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED_TABLES.glob(f"*{SUFFIX}"))


@lru_cache(maxsize=8)
def load_table(table: str) -> Enumeration:
    """Return a finished enumeration: a shipped one by name, or a file.

    Raises:
        UnknownNameError: no such table.
        ConfigError: the file is missing, damaged, unfinished, or of another version.
    """
    path = Path(table)
    if not table.endswith((".csv", ".xz")):
        if table not in shipped_tables():
            raise UnknownNameError("table", table, shipped_tables())
        path = SHIPPED_TABLES / f"{table}{SUFFIX}"
    found = read_enumeration(path)
    if not found.finished:
        raise ConfigError(f"{path} is unfinished; finish it with `cimenv enumerate` and the same task.")
    if wrong := found.disagreements(found.best) | found.disagreements(found.rows[0]):
        raise ConfigError(
            f"{path} does not fit this cimenv: {', '.join(wrong)} no longer follow from its counts; make it again with "
            f"`cimenv enumerate {found.header.task.name} --out {path.name.removesuffix('.xz')}`."
        )
    return found


class TableEvaluator:
    """Answers from an enumerated table; computes nothing.

    Args:
        table: the name of a shipped table, or a file written by `cimenv enumerate`, perhaps compressed by xz.

    Raises:
        UnknownNameError: no such table.
        ConfigError: the file is missing, damaged, unfinished, or of another version.
    """

    def __init__(self, table: str | Path) -> None:
        self.table = str(table)
        self.enumeration = load_table(self.table)
        self.task: Task = self.enumeration.header.task
        self.space: PlacementSpace = self.enumeration.space
        self._rows = {row.placement: row for row in self.enumeration.rows}

    def __getstate__(self) -> dict[str, str]:
        return {"table": self.table}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["table"])  # type: ignore[misc]

    def evaluate(
        self,
        placement: Placement,
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> Evaluation:
        """Return a row of the table.

        Raises:
            ConfigError: another split, fidelity or number of chips than the table holds. With a range of chips the
                site errors are still those over all of them.
            PlacementError: the placement is not in the table.
        """
        self._check(split, fidelity, chips)
        checked = self.space.options.checked(placement)
        if checked not in self._rows:
            raise PlacementError(f"placement {checked} is not in the table {self.table}; it is not feasible.")
        row = self._rows[checked]
        part = row.correct[chips.start : chips.stop] if isinstance(chips, range) else row.correct
        return self.enumeration.header.evaluation(checked, part, row.errors)

    def evaluate_many(
        self,
        placements: Sequence[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> list[Evaluation]:
        """Return rows of the table."""
        return [self.evaluate(placement, split, fidelity, chips) for placement in placements]

    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref on the table's images."""
        self._check(split)
        return self.enumeration.header.reference_accuracy

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the backbone's clean accuracy on the table's images."""
        self._check(split)
        return self.enumeration.header.clean_accuracy

    def _check(self, split: Split, fidelity: Fidelity = "bank", chips: int | range | None = None) -> None:
        header = self.enumeration.header
        held = header.chips
        known = chips.stop <= held if isinstance(chips, range) else chips in (None, held)
        if split != header.split or fidelity != header.fidelity or not known:
            raise ConfigError(
                f"The table {self.table} holds {held} chips of split '{header.split}' at fidelity '{header.fidelity}', "
                f"not {chips or held} of '{split}' at '{fidelity}'; use a MonteCarloEvaluator for reports."
            )
