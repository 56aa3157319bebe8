"""What the fit of the bank logged of every block, which costs no evaluation."""

from __future__ import annotations

import numpy as np

from cimenv.envs.features.base import BOUND, Feature, Floats, View

TENTH = 0.1


def _logged(view: View) -> tuple[Floats, Floats] | None:
    """Return what existing blocks added to J, `[sites, options]` with 0 for others, and its errors, in tenths."""
    gains = np.zeros((len(view.space.sites), view.mask.shape[1] - 1))
    sites, options = np.argwhere(np.isfinite(view.space.terms[:, 1:, 0])).T
    logged = view.objective.logged(sites, options + 1)
    if logged is None:
        return None
    gains[sites, options] = logged[0] / TENTH
    return gains, logged[1]


def _gains(view: View) -> Floats:
    logged = _logged(view)
    return logged[0] if logged is not None else np.zeros((len(view.space.sites), view.mask.shape[1] - 1))


def _error(view: View) -> float:
    logged = _logged(view)
    return float(logged[1].mean()) / TENTH if logged is not None else BOUND


LOGGED = Feature(
    "logged",
    _gains,
    "What the block added to J while the bank was fitted, its cost counted, in tenths; 0 without a log.",
    of="option",
)
LOGGED_ERROR = Feature(
    "logged_error",
    _error,
    "Mean standard error of what blocks added by that log, in tenths of J; 5 without a log.",
    of="placement",
)
