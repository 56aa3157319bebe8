"""What is observed of every site: its shape, and the error that the crossbar leaves there."""

from __future__ import annotations

import math

import numpy as np

from cimenv.crossbar.sites import SITE_TYPES
from cimenv.envs.features.base import BOUND, Feature, Floats, View


def _types(view: View) -> Floats:
    return np.array([[float(site.type == kind) for kind in SITE_TYPES] for site in view.space.sites])


def _depth(view: View) -> Floats:
    sites = len(view.space.sites)
    return np.arange(sites) / max(sites - 1, 1)


def _size(field: str) -> Feature:
    def formula(view: View) -> list[float]:
        return [math.log10(max(getattr(site, field), 1)) / 2 for site in view.space.sites]

    return Feature(f"log_{field}", formula, f"log10 of the layer's {field.replace('_', '-')}, halved.")


def _error(view: View, column: int) -> Floats:
    """Return ln of a column of the relative feature errors: mean, spread, largest over chips."""
    return np.log(np.maximum(view.evaluation.site_errors[:, column], math.exp(-BOUND)))


def _worst_share(view: View) -> Floats:
    damage = view.evaluation.damage
    return np.zeros(len(view.placement)) if damage is None else np.array(damage.shares)


def _current(view: View) -> Floats:
    return (np.arange(len(view.placement)) == (-1 if view.current is None else view.current)).astype(np.float64)


SITES = (
    Feature("valid", lambda view: np.ones(len(view.placement)), "1 for a site; padding sites are all zero."),
    Feature("type", _types, "Type of the layer, one-hot.", labels=SITE_TYPES),
    Feature("depth", _depth, "Place in call order, from 0 to 1."),
    _size("weights"),
    _size("macs"),
    _size("fan_in"),
    Feature("error_mean", lambda view: _error(view, 0), "ln of the relative feature error, mean over chips."),
    Feature("error_spread", lambda view: _error(view, 1), "ln of that error's standard deviation over chips."),
    Feature("error_max", lambda view: _error(view, 2), "ln of the largest error of a chip."),
    Feature("snr", lambda view: view.evaluation.site_errors[:, 3] / 20, "Signal-to-noise ratio, in 20 dB."),
    Feature("cosine", lambda view: view.evaluation.site_errors[:, 4], "Cosine to the clean feature."),
    Feature(
        "growth",
        lambda view: np.append(np.diff(_error(view, 0)), 0.0),
        "ln(e_next / e), from this site's error to the next one's.",
    ),
    Feature("worst_share", _worst_share, "Share of the worst-case damage; 0 for other statistics."),
    Feature("current", _current, "1 for the site that is decided on (Walk)."),
)
