"""Enumerated tables: every placement of a task in one file, and the evaluator that reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.compensation.fit_log import Gains
from cimenv.compensation.options import Placement
from cimenv.core.errors import ConfigError, PlacementError, brief, known_name
from cimenv.data.splits import Split, checked_split
from cimenv.evaluation.record import Evaluation
from cimenv.evaluation.statistics import statistic_named
from cimenv.tasks.evaluators.base import Evaluator
from cimenv.tasks.files.enumeration_file import Enumeration, read_enumeration
from cimenv.tasks.objective import Objective
from cimenv.tasks.requests import Fidelity, Request
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

SHIPPED_TABLES = Path(str(files("cimenv.tasks"))) / "tables"
SUFFIX = ".csv.xz"
SMALLEST_SPREAD = 1e-12
FIRST_CHIP = range(1)
REMEMBERED = 20_000  # evaluations held in memory: a few hundred bytes each
CHANGEABLE = ("budget", "cost_weight", "cost_weights", "statistic", "percentile", "name")


def shipped_tables() -> list[str]:
    """Return the names of the tables that ship with the package."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED_TABLES.glob(f"*{SUFFIX}"))


def table_path(table: str) -> Path:
    """Return the file of a table: of a shipped one by name, or the file itself.

    Raises:
        UnknownNameError: no such table.
    """
    path = Path(table)
    if path.exists() or table.endswith((".csv", ".xz")):
        return path
    return SHIPPED_TABLES / f"{known_name('table', table, shipped_tables())}{SUFFIX}"


def load_table(table: str, trust: bool = False) -> Enumeration:
    """Return a finished enumeration: a shipped one by name, or a file; read again where the file has changed.

    Args:
        table: name or file.
        trust: whether a backbone or data set of one's own that it names may be imported.

    Raises:
        UnknownNameError: no such table.
        ConfigError: the file is missing, damaged, unfinished, or of another version.
    """
    path = table_path(table)
    status = path.stat() if path.exists() else None
    return _loaded(path.resolve(), trust, *((status.st_mtime_ns, status.st_size) if status else (0, 0)))


@lru_cache(maxsize=8)
def _loaded(path: Path, trust: bool, changed_ns: int, size: int) -> Enumeration:
    del changed_ns, size  # they tell a file from what stood there before
    enumeration = read_enumeration(path, trust)
    if not enumeration.finished:
        raise ConfigError(f"{path} is unfinished; finish it with `cimenv enumerate` and the same task.")
    if wrong := enumeration.disagreements(enumeration.best) | enumeration.disagreements(enumeration.rows[0]):
        raise ConfigError(
            f"{path} does not fit this cimenv: {', '.join(wrong)} no longer follow from its counts; make it again with "
            f"`cimenv enumerate {enumeration.header.task.name} --out {path.name.removesuffix('.xz')}`."
        )
    return enumeration


def regret(objective: float, optimum: float, mean: float) -> float:
    """Return (J* - J) / (J* - mean J)."""
    return (optimum - objective) / max(optimum - mean, SMALLEST_SPREAD)


class TableEvaluator(Evaluator):
    """Answers from an enumerated table; computes nothing.

    Args:
        table: the name of a shipped table, or a file written by `cimenv enumerate`, perhaps compressed by xz.
        changes: fields of the table's task that its counts can answer for otherwise: those of `CHANGEABLE`.
        trust: whether a backbone or data set of one's own that the file names may be imported. Reading one that this
            version wrote imports nothing; one of an earlier version does not say its sites.

    Raises:
        UnknownNameError: no such table, or a field that counts cannot answer for.
        ConfigError: the file is missing, damaged, unfinished, or of another version; a change is not allowed, or its
            budget is looser than the table's.
    """

    def __init__(self, table: str | Path, changes: Mapping[str, Any] | None = None, *, trust: bool = False) -> None:
        if changes is not None and not isinstance(changes, Mapping):
            raise ConfigError(f"changes: got {brief(changes)}; give a mapping of the task's fields.")
        changed = dict(changes or {})
        self.table, self.changes, self.trust = str(table), changed, trust
        self.enumeration = load_table(self.table, trust)
        header = self.enumeration.header
        self._task: Task = header.task
        if header.chips != self.task.chips:
            self._task = self.task.with_changes(chips=header.chips)
        self._space: PlacementSpace = self.enumeration.space
        if self.changes:
            self._change()
        kept = [row for row in self.enumeration.rows if "budget" not in changed or self.space.feasible(row.placement)]
        self._rows = {row.placement: row for row in kept}
        self._known: dict[Request, Evaluation] = {}

    def _change(self) -> None:
        for name in self.changes:
            known_name("change of a table", name, CHANGEABLE)
        table = self.task.budget
        self._task = self.task.with_changes(**self.changes)
        if not statistic_named(self.task.statistic).of_chips:
            raise ConfigError(
                "changes: statistic worst_case is no function of a table's counts; use CiMCompensation-v0."
            )
        for term, limit in table.items():
            if self.task.budget[term] > limit:
                raise ConfigError(
                    f"changes: budget {term} {self.task.budget[term]:g} is looser than the table's {limit:g}, which "
                    "placements beyond it are not in; give at most that."
                )
        self._space = PlacementSpace(self.task, self.space.options)

    @cached_property
    def objective(self) -> Objective:
        """Return J, measured from the empty placement."""
        return Objective.of(self)

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Return the largest and the mean objective of all feasible placements: what regret is measured by."""
        return float(self._values.max()), float(self._values.mean())

    @cached_property
    def _values(self) -> npt.NDArray[np.float64]:
        """Return J of every feasible placement, in the order of the rows."""
        if not self.changes:
            return np.array([row.numbers["objective"] for row in self._rows.values()])
        return np.array([self.objective.value(self.enumeration.evaluation(row)) for row in self._rows.values()])

    def extremes_within(self, blocks: int) -> tuple[float, float]:
        """Return the largest and the mean objective of the feasible placements of at most so many blocks."""
        if blocks >= len(self.space.sites):
            return self.extremes
        few = self._values[(np.array(list(self._rows)) > 0).sum(axis=1) <= blocks]
        return float(few.max()), float(few.mean())

    def regret(self, objective: float) -> float:
        """Return (J* - J) / (J* - mean J of all feasible placements)."""
        return regret(objective, *self.extremes)

    def indistinguishable(self, errors: float = 2.0) -> int:
        """Return how many placements J does not tell from the best: within some standard errors of their difference.

        Chips are paired: the error is that of the mean over chips of the difference in accuracy.

        Raises:
            ConfigError: the task's statistic is not the mean over chips, or the table has one chip.
        """
        if self.task.statistic != "mean":
            raise ConfigError(
                f"statistic is {self.task.statistic}; only a mean over chips has a standard error; take mean."
            )
        values = self._values
        header = self.enumeration.header
        per_chip = np.array([row.per_chip for row in self._rows.values()])
        each = per_chip / header.images if header.metric.share else per_chip
        if each.shape[1] < 2:
            raise ConfigError("chips is 1; a standard error needs at least 2, so enumerate the task with more chips.")
        spread = (each - each[values.argmax()]).std(axis=1, ddof=1) / np.sqrt(each.shape[1])
        return int((values.max() - values <= errors * spread / self.objective.gap + SMALLEST_SPREAD).sum())

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table, "changes": self.changes, "trust": self.trust}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["table"], state["changes"], trust=state["trust"])  # type: ignore[misc]

    @property
    def task(self) -> Task:
        """Return the table's task, with the changes."""
        return self._task

    @property
    def space(self) -> PlacementSpace:
        """Return the placements, costs and masks."""
        return self._space

    def requests(
        self,
        placements: Iterable[Placement],
        split: Split = "val",
        fidelity: Fidelity = "bank",
        chips: int | range | None = None,
    ) -> list[Request]:
        """Return the checked requests for some placements, by default of all chips of the table."""
        return super().requests(placements, split, fidelity, self.enumeration.header.chips if chips is None else chips)

    def answers(self, requests: Sequence[Request]) -> list[Evaluation]:
        """Return rows of the table.

        Raises:
            ConfigError: another split or fidelity than the table holds, or more chips. With fewer chips the site
                errors are still those over all of them.
            PlacementError: a placement is not in the table.
        """
        return [self._known.get(request) or self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Evaluation:
        self._check(request.split, request.fidelity, request.chips)
        placement, numbers = request.placement, request.chips
        if placement not in self._rows:
            raise PlacementError(f"placement {placement} is not in the table {self.table}; it is not feasible.")
        row = self._rows[placement]
        part = row.per_chip[numbers.start : numbers.stop]
        cost = self.space.shares(placement)
        evaluation = self.enumeration.header.evaluation(placement, part, row.errors, cost, numbers.start)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[request] = evaluation
        return evaluation

    @property
    def gains(self) -> Gains | None:
        """Return what every block added to accuracy while the bank was fitted, from the table's header."""
        return self.enumeration.header.gains

    def reference_accuracy(self, split: Split = "val") -> float:
        """Return acc_ref on the table's images."""
        self._check(checked_split(split))
        return self.enumeration.header.reference_accuracy

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the backbone's clean accuracy on the table's images."""
        self._check(checked_split(split))
        return self.enumeration.header.clean_accuracy

    def _check(self, split: Split, fidelity: Fidelity = "bank", chips: range = FIRST_CHIP) -> None:
        header = self.enumeration.header
        if split != header.split or fidelity != header.fidelity or chips.stop > header.chips:
            raise ConfigError(
                f"The table {self.table} holds {header.chips} chips of split '{header.split}' at fidelity "
                f"'{header.fidelity}', not chip {chips.stop - 1} of '{split}' at '{fidelity}'; use a "
                "MonteCarloEvaluator for reports."
            )
