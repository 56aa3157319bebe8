"""A tabular environment laid out as arrays: every feasible placement is a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.envs.base import Info
from cimenv.envs.observation import View
from cimenv.envs.tabular import CompensationTabularEnv

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
EPISODE = ("action_mask", "placement", "evaluated", "evaluations", "invalid_action")  # infos that are not a placement's


class Pages:
    """Every feasible placement of a tabular environment as a row of arrays.

    Attributes:
        actions: their number.
        after: the row that a move (row * actions + action) leads to; itself where the action is masked.
        masked: whether the move's action is masked.
        ends: whether the move stops, or leads to where nothing more can be placed.
        gain: what the move pays with the dense reward.
        masks: allowed actions, `[rows, actions]`.
        observations: `[rows, size]`, but for the share of steps left, column `left`.
        objective: J, `[rows]`.
        placements: int8, -1 is padding, `[rows, max_sites]`.
        blocks: blocks placed, `[rows]`.
        columns: infos by name that are an evaluation's, `[rows]` each.
        cost: infos by name that are a placement's, `[rows]` each.
    """

    def __init__(self, single: CompensationTabularEnv) -> None:
        single.reset()
        space, evaluator = single.objective.space, single.ledger.evaluator
        self.left = single.layout.names.index("steps_left")
        every = list(space.all_placements())
        number = {placement: row for row, placement in enumerate(every)}
        self.actions = int(single.action_space.n)  # type: ignore[attr-defined]
        count = len(every)
        after = np.full((count, self.actions), -1, dtype=np.int64)
        self.observations = np.empty((count, single.layout.size), dtype=np.float32)
        infos: list[Info] = []
        none = evaluator.evaluate(space.empty())
        for row, placement in enumerate(every):
            single.placement, single._evaluation, single._ended = placement, evaluator.evaluate(placement), False
            for action in np.flatnonzero(single.action_masks()):
                after[row, action] = number[single.placement_after(int(action))]
            shown = none if single.feedback == "reset" else single._evaluation
            view = View(shown, single.objective, placement, space.affordable(placement), 1.0)
            self.observations[row] = single.layout.observe(view)
            single._ended = True  # what feedback="reset" hides before
            infos.append({name: value for name, value in single._info(invalid=False).items() if name not in EPISODE})
        self.placements = np.full((count, single.max_sites), -1, dtype=np.int8)
        self.placements[:, : len(space.sites)] = every
        self.blocks = (np.array(every) > 0).sum(axis=1)
        self.columns = {name: _column([info[name] for info in infos]) for name in infos[0] if name != "cost"}
        self.cost = {name: np.array([info["cost"][name] for info in infos]) for name in infos[0]["cost"]}
        self.objective: Floats = self.columns["objective"]
        self._moves(after, single.invalid_penalty)

    def _moves(self, after: Integers, penalty: float) -> None:
        """Lay out what every move does, from the row that each allowed one leads to (-1: masked)."""
        rows = np.arange(len(after))[:, None]
        self.masks = after >= 0
        full: Booleans = np.logical_not(self.masks[:, 1:].any(axis=1))
        target = np.where(self.masks, after, rows)
        stops = np.zeros_like(self.masks)
        stops[:, 0] = True
        self.after, self.masked = target.reshape(-1), ~self.masks.reshape(-1)
        self.ends = (stops | full[target]).reshape(-1)
        self.gain = (self.objective[target] - self.objective[rows] - penalty * ~self.masks).reshape(-1)


def _column(values: list[Any]) -> npt.NDArray[Any]:
    """Return a column; texts as objects, as gymnasium's vector environments hold them."""
    return np.array(values, dtype=object if isinstance(values[0], str) else None)
