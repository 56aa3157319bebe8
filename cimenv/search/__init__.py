"""Floor 6: searches without reinforcement learning, behind one propose/observe interface."""

from cimenv.search.base import METHODS, Search, SearchResult, run_search
from cimenv.search.place import PlacementResult, place

__all__ = ["METHODS", "PlacementResult", "Search", "SearchResult", "place", "run_search"]
