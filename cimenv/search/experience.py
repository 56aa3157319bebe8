"""What enumerated tables teach: how much each block adds on average, beside what is known before any is placed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cimenv.core.errors import ConfigError
from cimenv.evaluation.record import Evaluation
from cimenv.tasks.evaluators.table import TableEvaluator, table_path
from cimenv.tasks.objective import Objective
from cimenv.tasks.space import PlacementSpace
from cimenv.tasks.task import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEATURES = (
    *("error", "error_spread", "error_before", "error_after", "error_left", "last_error", "cosine"),
    *("depth", "weights", "macs", "fan_in", "is_conv"),
    *("is_affine", "is_largest", "added_weights"),
    *("accuracy", "reference", "lost", "odds", "strength"),
)
SMALLEST_LOG = -5.0
SMALLEST_LOSS = 0.01  # of accuracy: where less is lost there is nothing to tell shares of
SMALLEST_ERROR_RATE = 0.02
RIDGE = 1e-3
NETWORK = ("backbone", "backbone_args", "weights", "data", "recipe", "training_seed", "crossbar")


@dataclass(frozen=True)
class Blocks:
    """The blocks that a task allows, and what is known of them from the evaluation without blocks.

    Attributes:
        sites: `[blocks]`.
        options: `[blocks]`.
        features: `[blocks, len(FEATURES)]`.
        lost: accuracy that variation took, at least `SMALLEST_LOSS`: the unit of what blocks add.
        logged: what they added while the bank was fitted and its standard error, `[2, blocks]` in units of `lost`;
            None where nobody kept it.
    """

    sites: Ints
    options: Ints
    features: Floats
    lost: float
    logged: Floats | None = None

    @staticmethod
    def of(objective: Objective, none: Evaluation) -> Blocks:
        """Describe the blocks of a task; `none` is its evaluation without blocks."""
        sites, options = np.argwhere(objective.space.candidates[:, 1:]).T
        lost = max(objective.acc_ref - objective.acc_none, SMALLEST_LOSS)
        columns = [_of_sites(objective.space, none)[sites], _of_blocks(objective.space, sites, options + 1)]
        columns.append(np.tile(_of_task(objective), (len(sites), 1)))
        features = np.nan_to_num(np.concatenate(columns, axis=1))
        gains = objective.gains
        logged = np.stack(gains.of(sites, options + 1)) / lost if gains is not None else None
        return Blocks(sites, options + 1, features, lost, logged)

    def part(self, which: npt.NDArray[np.bool_]) -> Blocks:
        """Return some of the blocks."""
        logged = self.logged[:, which] if self.logged is not None else None
        return Blocks(self.sites[which], self.options[which], self.features[which], self.lost, logged)

    def placed(self, placements: npt.ArrayLike) -> Floats:
        """Return which blocks placements have, `[placements, blocks]`."""
        return (np.asarray(placements)[:, self.sites] == self.options).astype(np.float64)


def _of_sites(space: PlacementSpace, none: Evaluation) -> Floats:
    """Return the features of every site, `[sites, 12]`; errors are natural logarithms of relative ones."""
    mean, spread, _, _, cosine = none.site_errors.T
    error, spread = _log(mean), _log(spread)
    before, after = np.append(SMALLEST_LOG, error[:-1]), np.append(error[1:], error[-1])
    last = np.full(len(error), error[-1])
    rows = [(site.weights, site.macs, site.fan_in) for site in space.sites]
    sizes = np.log10(np.maximum(rows, 1)).T
    depth = np.linspace(0.0, 1.0, len(error))
    conv = [float(site.type == "conv") for site in space.sites]
    columns = [error, spread - error, error - before, after - error, error - last, last, cosine, depth, *sizes, conv]
    return np.stack(columns, axis=1)


def _of_blocks(space: PlacementSpace, sites: Ints, options: Ints) -> Floats:
    """Return kind and size of every block, `[blocks, 3]`."""
    affine = [not space.options.per_site[s][o - 1].block.sized for s, o in zip(sites, options, strict=True)]
    weights = space.terms[sites, options, 0]
    largest = np.where(np.isinf(space.terms[sites, :, 0]), 0.0, space.terms[sites, :, 0]).max(axis=1)
    return np.stack([np.array(affine, dtype=np.float64), weights >= largest, _log(weights)], axis=1)


def _of_task(objective: Objective) -> Floats:
    """Return the features that all blocks of a task share, `[5]`."""
    none, reference = objective.acc_none, objective.acc_ref
    odds = (1 - none) / (1 - reference + SMALLEST_ERROR_RATE)
    strength = objective.task.crossbar.device.relative_strength
    return np.array([none, reference, math.log(objective.gap), odds, strength])


def _log(values: npt.ArrayLike) -> Floats:
    return np.log(np.maximum(values, math.exp(SMALLEST_LOG)))


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one table teaches; the same object as long as its file stays the same.

    Attributes:
        task: of the table.
        blocks: of the task.
        added: what every block adds on average over all placements, `[blocks]`, in units of `blocks.lost`.
        first_block_gain: what any placement with blocks adds besides, in the same units.
        misfit: variance of what that leaves unexplained: blocks do not simply add up.
    """

    task: Task
    blocks: Blocks
    added: Floats
    first_block_gain: float
    misfit: float

    def answers(self, task: Task) -> bool:
        """Return whether the table has the same trained network on the same crossbar as a task."""
        return all(getattr(self.task, name) == getattr(task, name) for name in NETWORK)


def lesson(table: str | Path) -> Lesson:
    """Return the lesson of a table: a least-squares fit of accuracy by the blocks that are placed.

    Raises:
        UnknownNameError: no such table.
        ConfigError: the file is missing, damaged, unfinished, or of another version.
    """
    path = table_path(str(table)).resolve()
    status = path.stat() if path.exists() else None
    return _lesson(path, *((status.st_mtime_ns, status.st_size) if status else (0, 0)))


@lru_cache(maxsize=128)
def _lesson(path: Path, changed_ns: int, size: int) -> Lesson:
    del changed_ns, size
    evaluator = TableEvaluator(path)
    objective, rows = evaluator.objective, evaluator.enumeration.rows
    if len(rows) < 2:
        raise ConfigError(f"tables: {path} has one placement, which teaches nothing; leave it out.")
    described = Blocks.of(objective, evaluator.evaluate(objective.space.empty()))
    held = np.asarray(described.placed([row.placement for row in rows]).any(axis=0))  # others break its budget
    blocks = described.part(held)
    accuracies = [objective.accuracy(evaluator.enumeration.evaluation(row)) for row in rows]
    gains = (np.array(accuracies) - objective.acc_none) / blocks.lost
    x = np.concatenate([np.ones((len(rows), 1)), blocks.placed([row.placement for row in rows])], axis=1)
    fit = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ gains)
    return Lesson(evaluator.task, blocks, fit[1:], float(fit[0]), float(np.square(x @ fit - gains).mean()))
