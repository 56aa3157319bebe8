"""Feasible placements near others: how searches draw, change and repair placements."""

from __future__ import annotations

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.tasks.space import PlacementSpace


def random_placement(space: PlacementSpace, generator: np.random.Generator) -> Placement:
    """Draw a feasible placement: sites in random order, a random allowed option (or none) at each."""
    placed = space.empty()
    for site in generator.permutation(len(placed)):
        allowed = np.flatnonzero(space.affordable_at(placed, site))
        placed = with_option(placed, int(site), int(generator.choice(allowed)))
    return placed


def with_option(placement: Placement, site: int, option: int) -> Placement:
    """Return a placement with another option at one site."""
    return (*placement[:site], option, *placement[site + 1 :])


def single_changes(space: PlacementSpace, placement: Placement) -> list[Placement]:
    """Return every feasible placement that differs at exactly one site."""
    neighbours = []
    for site, here in enumerate(placement):
        without = with_option(placement, site, 0)
        allowed = np.flatnonzero(space.affordable_at(without, site))
        neighbours += [with_option(without, site, int(option)) for option in allowed if option != here]
    return neighbours


def moved_blocks(space: PlacementSpace, placement: Placement) -> list[Placement]:
    """Return every feasible placement in which one block went to an empty site, or changed its size there."""
    neighbours = []
    for site in np.flatnonzero(placement):
        without = with_option(placement, int(site), 0)
        allowed = space.affordable(without)
        for other in np.flatnonzero(np.array(placement) == 0):
            neighbours += [with_option(without, int(other), int(o)) for o in np.flatnonzero(allowed[other]) if o]
    return neighbours


def neighbours(space: PlacementSpace, placement: Placement) -> list[Placement]:
    """Return every feasible placement that is one change or one moved block away."""
    return single_changes(space, placement) + moved_blocks(space, placement)


def repaired(space: PlacementSpace, wanted: Placement, generator: np.random.Generator) -> Placement:
    """Return a feasible placement with as many of the wanted blocks as fit, tried in random order."""
    placed = space.empty()
    for site in generator.permutation(len(placed)):
        if wanted[site] and space.affordable_at(placed, site)[wanted[site]]:
            placed = with_option(placed, int(site), wanted[site])
    return placed
