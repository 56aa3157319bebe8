"""A tabular environment laid out as arrays: every feasible placement is a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.errors import ConfigError
from cimenv.envs.episode import Episode
from cimenv.envs.info import Info
from cimenv.envs.observation import Vector
from cimenv.envs.tabular import CompensationTabularEnv

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
EPISODE = ("action_mask", "placement", "evaluated", "evaluations", "invalid_action")  # infos that are not a placement's


class Transitions:
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
        start = Episode.begun(single.scenarios.base)
        space = start.scenario.evaluator.space
        self.left = single.layout.names.index("steps_left")
        every = list(space.all_placements())
        number = {placement: row for row, placement in enumerate(every)}
        self.actions = single.actions.count
        after = np.full((len(every), self.actions), -1, dtype=np.int64)
        self.observations = np.empty((len(every), single.layout.size), dtype=np.float32)
        infos: list[Info] = []
        for row, placement in enumerate(every):
            here = replace(start, placement=placement).evaluate()
            for action in np.flatnonzero(single.actions.mask(here)):
                after[row, action] = number[single.actions.placed(here, int(action))]
            self.observations[row] = single.observe(here)
            if single.layout.features:
                self._check_still(single, here, self.observations[row])
            told = single.info(replace(here, ended=True))  # what feedback="reset" hides before
            infos.append({name: value for name, value in told.items() if name not in EPISODE})
        self.placements = np.full((len(every), single.max_sites), -1, dtype=np.int8)
        self.placements[:, : len(space.sites)] = every
        self.blocks = (np.array(every) > 0).sum(axis=1)
        self.columns = {name: _column([info[name] for info in infos]) for name in infos[0] if name != "cost"}
        self.cost = {name: np.array([info["cost"][name] for info in infos]) for name in infos[0]["cost"]}
        self.objective: Floats = self.columns["objective"]
        self._moves(after, single.invalid_penalty)

    def _check_still(self, single: CompensationTabularEnv, here: Episode, seen: Vector) -> None:
        """Refuse own features that change with the steps taken, for a row is laid out once.

        Raises:
            ConfigError: one does.
        """
        for steps in {1, single.max_steps // 2, single.max_steps}:
            moved = single.observe(replace(here, steps=steps)) != seen
            moved[self.left] = False
            if moved.any():
                name = single.layout.names[int(moved.argmax())]
                raise ConfigError(f"features: {name} changes with the steps, which arrays cannot show; leave it out.")

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
