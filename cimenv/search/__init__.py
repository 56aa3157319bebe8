"""Floor 6: searches without reinforcement learning, behind one propose/observe interface."""

from cimenv.search.base import METHODS, Search, SearchResult, run_search
from cimenv.search.place import PlacementResult, place
from cimenv.search.racing import RaceResult, race

__all__ = ["METHODS", "PlacementResult", "RaceResult", "Search", "SearchResult", "place", "race", "run_search"]
