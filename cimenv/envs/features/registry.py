"""All features by name; a new one is a row in a file and a line here."""

from __future__ import annotations

from cimenv.core.registry import Registry
from cimenv.envs.features.base import Feature
from cimenv.envs.features.options import OPTIONS
from cimenv.envs.features.sites import SITES
from cimenv.envs.features.whole import WHOLE

FEATURES: Registry[Feature] = Registry(
    "feature",
    Feature,
    {
        **{row.name: row for row in (*SITES, *OPTIONS, *WHOLE)},
        "logged": "cimenv.envs.features.fit_log:LOGGED",
        "logged_error": "cimenv.envs.features.fit_log:LOGGED_ERROR",
    },
    tag="name",
    objects=True,
)
V0 = (  # what every `-v0` observes, in this order; it is frozen, whatever is registered
    *("valid", "type", "depth", "log_weights", "log_macs", "log_fan_in"),
    *("error_mean", "error_spread", "error_max", "snr", "cosine", "growth", "worst_share"),
    *("placed", "block_cost", "allowed", "current"),
    *("acc_none", "acc_ref", "score", "cost", "cost_weight", "weight", "budget", "left"),
    *("steps_left", "statistic", "log_time", "variation"),
)
FIT_LOG = ("logged", "logged_error")
