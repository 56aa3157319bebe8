"""Which options may be placed where, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from cimenv.compensation.options import BlockOption, Options, Placement, added_macs, added_weights
from cimenv.core.errors import known_name
from cimenv.cost.hardware import Cost, backbone_cost, block_cost, scalar, shares, terms_of
from cimenv.crossbar.sites import Site
from cimenv.tasks.task import Task

TOLERANCE = 1e-9
REMEMBERED = 20_000  # placements whose costs are held in memory
DIGITAL = BlockOption(kind="digital")


class PlacementSpace:
    """The placements of a task, their costs and masks.

    Attributes:
        options: sites and block options.
        term_names: of the cost: those that are built in, then those of one's own that the task names.
        terms: `[sites, 1 + options, terms]`: share of every cost term of a block alone; infinite where a site has fewer
            options. Ranges enter at the geometric mean of their sums, so single shares need not add up exactly.
    """

    def __init__(self, task: Task, options: Options | None = None) -> None:
        self.task = task
        self.options = options if options is not None else task.block_options()
        self.sites: tuple[Site, ...] = self.options.sites
        self.term_names = terms_of([*task.cost_weights, *task.budget])
        self.backbone = backbone_cost(self.sites, task.crossbar, self.term_names)
        self._known_shares: dict[Placement, dict[str, float]] = {}
        if task.candidates is not None:
            names = [site.name for site in self.sites]
            for name in task.candidates:
                known_name("candidate site", name, names)
        self._costs = [
            [block_cost(option, site, task.crossbar, self.term_names) for option in (None, *here)]
            for site, here in zip(self.sites, self.options.per_site, strict=True)
        ]
        self.terms = np.full((len(self.sites), 1 + self.options.count, len(self.term_names)), np.inf)
        for s, costs in enumerate(self._costs):
            for o, cost in enumerate(costs):
                part = shares(cost, self.backbone)
                self.terms[s, o] = [part[term] for term in self.term_names]

    def cost(self, placement: Placement) -> Cost:
        """Return the absolute cost that a placement adds."""
        chosen = zip(self._costs, self.options.checked(placement), strict=True)
        return sum((costs[option] for costs, option in chosen), Cost())

    def shares(self, placement: Placement) -> dict[str, float]:
        """Return every cost term as a share of the backbone's."""
        if placement not in self._known_shares:
            if len(self._known_shares) >= REMEMBERED:
                self._known_shares.clear()
            self._known_shares[placement] = shares(self.cost(placement), self.backbone)
        return dict(self._known_shares[placement])

    def scalar_cost(self, placement: Placement) -> float:
        """Return the scalar cost: the weighted sum of the shares."""
        return scalar(self.shares(placement), self.task.cost_weights)

    @cached_property
    def scalar_costs(self) -> npt.NDArray[np.float64]:
        """Return the scalar cost of every option, `[sites, 1 + options]`."""
        weights = np.array([self.task.cost_weights.get(term, 0.0) for term in self.term_names])
        finite = np.where(np.isinf(self.terms), 0.0, self.terms)
        return np.where(np.isinf(self.terms[..., 0]), np.inf, finite @ weights)

    @cached_property
    def candidates(self) -> npt.NDArray[np.bool_]:
        """Return which options are ever allowed, `[sites, 1 + options]`; none always is.

        Masked: non-candidate sites, and options that cost more weights AND more MACs than `digital` there.
        """
        allowed = ~np.isinf(self.terms[..., 0])
        for s, site in enumerate(self.sites):
            if self.task.candidates is not None and site.name not in self.task.candidates:
                allowed[s, 1:] = False
            for o, option in enumerate(self.options.per_site[s], start=1):
                dearer = added_weights(option, site) > added_weights(DIGITAL, site)
                if dearer and added_macs(option, site) > added_macs(DIGITAL, site):
                    allowed[s, o] = False
        return allowed

    def _within(self, placement: Placement) -> bool:
        part = self.shares(placement)
        return all(part[term] <= limit + TOLERANCE for term, limit in self.task.budget.items())

    def affordable(self, placement: Placement, sites: Sequence[int] | None = None) -> npt.NDArray[np.bool_]:
        """Return which options fit the budget beside a placement, at sites that are still empty.

        Args:
            placement: blocks that are there.
            sites: which are asked for; default all.

        Returns:
            `[sites, 1 + options]`, column 0 (none) true.
        """
        numbers = np.arange(len(self.sites)) if sites is None else np.array(sites)
        fits = self.candidates[numbers]
        fits[np.array(placement)[numbers] > 0, 1:] = False
        if self.task.budget:
            for k, o in np.argwhere(fits[:, 1:]):
                s = numbers[k]
                fits[k, o + 1] = self._within((*placement[:s], int(o) + 1, *placement[s + 1 :]))
        fits[:, 0] = True
        return fits

    def affordable_at(self, placement: Placement, site: int) -> npt.NDArray[np.bool_]:
        """Return which options fit the budget beside a placement at one site, `[1 + options]`; none at a filled one."""
        return self.affordable(placement, [site])[0]

    def feasible(self, placement: Placement) -> bool:
        """Return whether a placement uses allowed options and keeps the budget."""
        chosen = self.candidates[np.arange(len(self.sites)), placement].all()
        return bool(chosen) and self._within(placement)

    def all_placements(self) -> Iterator[Placement]:
        """Yield every feasible placement in lexical (depth-first) order."""
        choices = [np.flatnonzero(row).tolist() for row in self.candidates]
        return (p for p in product(*choices) if self.feasible(p))

    def empty(self) -> Placement:
        """Return the placement without blocks."""
        return (0,) * len(self.sites)

    def uniform(self, kind: str) -> Placement:
        """Return the placement with one kind of option at every candidate site that offers it."""
        return tuple(
            next((o for o, option in enumerate(here, 1) if option.kind == kind and self.candidates[s, o]), 0)
            for s, here in enumerate(self.options.per_site)
        )

    def largest(self) -> Placement:
        """Return the placement with the largest allowed option (by weights) everywhere, whatever the budget."""
        weights = np.where(self.candidates, self.terms[..., 0], -1.0)
        return tuple(int(o) for o in weights.argmax(axis=1))


def describe(placement: Placement, options: Options) -> Mapping[str, str]:
    """Return site name -> block label of a placement's blocks."""
    pairs = zip(options.sites, options.blocks(placement), strict=True)
    return {site.name: option.label for site, option in pairs if option is not None}
