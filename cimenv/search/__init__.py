"""Floor 6: searches without reinforcement learning, behind one propose/observe interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimenv.core.lazy import lazily

if TYPE_CHECKING:
    from cimenv.search.base import Search, SearchResult
    from cimenv.search.methods import METHODS
    from cimenv.search.placing import place
    from cimenv.search.racing import RaceResult, race
    from cimenv.search.report import PlacementResult
    from cimenv.search.run import run_search

__all__ = ["METHODS", "PlacementResult", "RaceResult", "Search", "SearchResult", "place", "race", "run_search"]

__getattr__ = lazily(
    __name__,
    {
        "METHODS": "cimenv.search.methods",
        "PlacementResult": "cimenv.search.report",
        "RaceResult": "cimenv.search.racing",
        "Search": "cimenv.search.base",
        "SearchResult": "cimenv.search.base",
        "place": "cimenv.search.placing",
        "race": "cimenv.search.racing",
        "run_search": "cimenv.search.run",
    },
)
