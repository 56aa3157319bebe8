"""What is observed of every block option at every site."""

from __future__ import annotations

import numpy as np

from cimenv.envs.features.base import BOUND, Feature, Floats, View


def _placed(view: View) -> Floats:
    options = np.arange(1, view.mask.shape[1])
    return (np.array(view.placement)[:, None] == options).astype(np.float64)


def _cost(view: View) -> Floats:
    return np.minimum(view.space.scalar_costs[:, 1:], BOUND)


OPTIONS = (
    Feature("placed", _placed, "1 where this block is placed.", of="option"),
    Feature("block_cost", _cost, "Block's scalar cost; 5 where it does not exist.", of="option", column="cost"),
    Feature("allowed", lambda view: view.mask[:, 1:], "1 where this block is allowed now.", of="option"),
)
