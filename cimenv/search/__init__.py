"""Floor 6: searches without reinforcement learning, behind one propose/observe interface."""

from cimenv.search.base import Search, SearchResult
from cimenv.search.methods import METHODS
from cimenv.search.place import place
from cimenv.search.racing import RaceResult, race
from cimenv.search.report import PlacementResult
from cimenv.search.run import run_search

__all__ = ["METHODS", "PlacementResult", "RaceResult", "Search", "SearchResult", "place", "race", "run_search"]
