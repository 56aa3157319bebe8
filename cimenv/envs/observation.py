"""The observation: fixed transforms with fixed bounds, no running statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from cimenv.core.errors import ConfigError, brief
from cimenv.envs.features.base import Feature, View
from cimenv.envs.features.registry import FEATURES, FIT_LOG, V0

Vector = npt.NDArray[np.float32]


class ObservationLayout:
    """Names and order of the numbers in an observation: those of every site first, then those of the placement.

    The features of `-v0` come first, in a fixed order; then those of the fit's log; then those named by `features`.
    `cimenv.envs.features.registry.FEATURES` holds the formula, the bounds and a sentence of each. Padding sites are
    all zero.

    Args:
        max_sites: sites the observation has room for.
        options: options per site.
        fit_log: whether it tells what every block added to J while the bank was fitted.
        features: names of further features, registered ones or `package.module:FEATURE`.

    Raises:
        UnknownNameError: no such feature.
        ConfigError: `features` is no list of names, or names one that is observed already.
    """

    ARGUMENTS = ("max_sites", "options", "fit_log", "features")

    def __init__(self, max_sites: int, options: int, fit_log: bool = False, features: Sequence[str] = ()) -> None:
        if not isinstance(features, list | tuple) or not all(isinstance(name, str) for name in features):
            raise ConfigError(f"features: got {brief(features)}; give a list of names of registered features.")
        self.max_sites, self.options, self.fit_log, self.features = max_sites, options, fit_log, tuple(features)
        rows = [FEATURES.find(name) for name in (*V0, *(FIT_LOG if fit_log else ()), *self.features)]
        self._of_sites = [row for row in rows if row.of != "placement"]
        self._of_whole = [row for row in rows if row.of == "placement"]
        self.site_fields = tuple(name for row in self._of_sites for name in row.columns(options))
        self.global_fields = tuple(name for row in self._of_whole for name in row.columns(options))
        for fields in (self.site_fields, self.global_fields):
            twice = [name for name, count in Counter(fields).items() if count > 1]
            if twice:
                raise ConfigError(f"features: {twice[0]} is observed already; name other features than those of -v0.")

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make this layout again."""
        return {name: getattr(self, name) for name in self.ARGUMENTS}

    def __str__(self) -> str:
        log = "with" if self.fit_log else "without"
        beside = f" and {', '.join(self.features)}" if self.features else ""
        return f"{self.max_sites} sites x {self.options} options {log} the fit's log{beside}"

    @property
    def size(self) -> int:
        """Return the length of an observation."""
        return self.max_sites * len(self.site_fields) + len(self.global_fields)

    @property
    def names(self) -> list[str]:
        """Return the name of every number, such as `site2.error_mean`."""
        per_site = [f"site{s}.{name}" for s in range(self.max_sites) for name in self.site_fields]
        return per_site + list(self.global_fields)

    @property
    def space(self) -> gym.Space[Vector]:
        """Return the space of observations."""
        low, high = self.bounds
        return gym.spaces.Box(low, high, dtype=np.float32)

    @cached_property
    def bounds(self) -> tuple[Vector, Vector]:
        """Return the smallest and the largest observation: the bounds of features, opened to 0 for padding sites."""
        site, whole = (
            np.array([row.bounds for row in rows for _ in row.columns(self.options)], dtype=np.float32)
            for rows in (self._of_sites, self._of_whole)
        )
        site = np.stack([site[:, 0].clip(max=0.0), site[:, 1].clip(min=0.0)], axis=1)
        low, high = np.concatenate([np.tile(site, (self.max_sites, 1)), whole]).T
        return low, high

    def observe(self, view: View) -> Vector:
        """Return the observation, a fresh float32 array `[size]` within the space."""
        sites = np.zeros((self.max_sites, len(self.site_fields)))
        sites[: len(view.placement)] = self._values(self._of_sites, view)
        values = np.concatenate([sites.reshape(-1), self._values(self._of_whole, view)])
        return np.nan_to_num(values, nan=0.0).clip(*self.bounds).astype(np.float32)

    def _values(self, rows: Sequence[Feature], view: View) -> npt.NDArray[np.float64]:
        return np.concatenate([row.values(view, self.options) for row in rows], axis=-1)
