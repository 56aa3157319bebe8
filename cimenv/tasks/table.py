"""Enumerated tables: every placement of a task in one file, and the evaluator that reads it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from cimenv.compensation.options import Placement
from cimenv.core.config import canonical
from cimenv.core.errors import ConfigError, PlacementError
from cimenv.core.store import Record
from cimenv.data.splits import Split
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators import Evaluator
from cimenv.tasks.jobs import Fidelity
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

TABLE_VERSION = 1


def write_table(path: str | Path, evaluator: Evaluator, placements: Sequence[Placement] | None = None) -> None:
    """Evaluate placements (default: all feasible ones) on validation and write them to one safetensors file."""
    chosen = list(placements) if placements is not None else list(evaluator.space.all_placements())
    evaluations = evaluator.evaluate_many(chosen)
    meta: dict[str, Any] = {
        "version": TABLE_VERSION,
        "task": evaluator.task.model_dump(mode="json"),
        "reference_accuracy": evaluator.reference_accuracy(),
        "clean_accuracy": evaluator.clean_accuracy(),
        "images": evaluations[0].images,
    }
    arrays: dict[str, Any] = {
        "placements": np.array(chosen, dtype=np.int8),
        "correct": np.stack([evaluation.correct for evaluation in evaluations]).astype(np.int32),
        "site_errors": np.stack([evaluation.site_errors for evaluation in evaluations]),
    }
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.write_bytes(Record(meta, arrays).to_bytes(canonical({"table": evaluator.task.key})))
    os.replace(temporary, target)


class TableEvaluator:
    """Answers from an enumerated table; computes nothing.

    Args:
        path: file written by `write_table`.

    Raises:
        ConfigError: the file is missing, damaged, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                meta = json.loads(file.metadata()["meta"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"The table {path} cannot be read ({error}); write it again with cimenv.tasks.write_table."
            ) from None
        if meta["version"] != TABLE_VERSION:
            raise ConfigError(
                f"The table {path} has version {meta['version']}, this code reads {TABLE_VERSION}; "
                "write it again with cimenv.tasks.write_table."
            )
        self.task = Task(**meta["task"])
        self.space = PlacementSpace(self.task)
        self._meta, self._arrays = meta, arrays
        self._row = {tuple(int(o) for o in row): k for k, row in enumerate(arrays["placements"])}

    def __getstate__(self) -> dict[str, Path]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

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
        if checked not in self._row:
            raise PlacementError(f"placement {checked} is not in the table {self.path}; it is not feasible.")
        k = self._row[checked]
        part = slice(chips.start, chips.stop) if isinstance(chips, range) else slice(None)
        return Evaluation(
            key=f"{self.task.key}/{checked}",
            placement=checked,
            split=split,
            fidelity=fidelity,
            correct=self._arrays["correct"][k][:, part].astype(np.int64),
            images=self._meta["images"],
            site_errors=self._arrays["site_errors"][k].copy(),
        )

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
        return float(self._meta["reference_accuracy"])

    def clean_accuracy(self, split: Split = "val") -> float:
        """Return the backbone's clean accuracy on the table's images."""
        self._check(split)
        return float(self._meta["clean_accuracy"])

    def _check(self, split: Split, fidelity: Fidelity = "bank", chips: int | range | None = None) -> None:
        held = self._arrays["correct"].shape[-1]
        known = chips.stop <= held if isinstance(chips, range) else chips in (None, held)
        if split != "val" or fidelity != "bank" or not known:
            raise ConfigError(
                f"The table {self.path} holds {held} chips of split 'val' at fidelity 'bank', not {chips or held} of "
                f"'{split}' at '{fidelity}'; use a MonteCarloEvaluator for reports."
            )
