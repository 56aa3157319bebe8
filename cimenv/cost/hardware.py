"""What a mapped backbone costs and what blocks add, in every term of the cost.

Terms are those that are built in, and those of one's own that are asked for. Blocks are digital int8 arithmetic;
`affine` adds storage only: the digital periphery scales and shifts every output anyway. `digital` is charged in full;
the energy its crossbar layer no longer needs is not credited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cimenv.compensation.options import BlockOption
from cimenv.core.errors import MappingError
from cimenv.cost.term import COST_TERMS, COSTS, Amount, CostTerm, Range, middle
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site


@dataclass(frozen=True)
class Cost:
    """Absolute cost of one inference.

    Every term is an attribute by its name and unit, too: `weights`, `macs`, `energy_pj`, `area_mm2`, `latency_us`.

    Attributes:
        amounts: by the name of the term.
    """

    amounts: Mapping[str, Amount] = field(default_factory=lambda: {name: term.zero for name, term in _built_in()})

    def __add__(self, other: Cost) -> Cost:
        sums: dict[str, Any] = dict(self.amounts)
        for term, amount in other.amounts.items():
            sums[term] = sums[term] + amount if term in sums else amount
        return Cost(sums)

    def __getattr__(self, name: str) -> Any:
        known = {} if name.startswith("_") else {term.field(): (key, term.zero) for key, term in _built_in()}
        if name not in known:
            raise AttributeError(f"Cost has no {name}; it has amounts, {', '.join(known)}")
        return self.amounts.get(*known[name])

    @property
    def ranges(self) -> dict[str, Range]:
        """Return the terms that are known only within a range, by their names with units."""
        return {COSTS.find(name).field(): each for name, each in self.amounts.items() if isinstance(each, Range)}


def _built_in() -> Iterator[tuple[str, type[CostTerm]]]:
    return ((name, COSTS[name]) for name in COST_TERMS)


def terms_of(named: Iterable[str]) -> tuple[str, ...]:
    """Return the terms that are built in, and those of one's own among some names."""
    return tuple(dict.fromkeys([*COST_TERMS, *named]))


def site_cost(site: Site, config: CrossbarConfig, terms: Sequence[str] = COST_TERMS) -> Cost:
    """Return the cost of one mapped layer on the crossbar."""
    here = config.at(site.name)
    return Cost({term: COSTS.find(term).of_site(site, here) for term in terms})


def backbone_cost(sites: Iterable[Site], config: CrossbarConfig, terms: Sequence[str] = COST_TERMS) -> Cost:
    """Return the cost of the mapped backbone."""
    return sum((site_cost(site, config, terms) for site in sites), Cost())


def block_cost(
    option: BlockOption | None, site: Site, config: CrossbarConfig, terms: Sequence[str] = COST_TERMS
) -> Cost:
    """Return the cost that a block adds at a site."""
    if option is None:
        return Cost()
    return Cost({term: COSTS.find(term).of_block(option, site, config) for term in terms})


def placement_cost(blocks: Sequence[BlockOption | None], sites: Sequence[Site], config: CrossbarConfig) -> Cost:
    """Return the cost that all blocks of a placement add."""
    pairs = zip(blocks, sites, strict=True)
    return sum((block_cost(option, site, config) for option, site in pairs), Cost())


def shares(added: Cost, backbone: Cost) -> dict[str, float]:
    """Return each term as what the blocks add over what the backbone has; ranges at their geometric mean.

    Raises:
        MappingError: blocks add to a term of which the backbone has nothing: it was mapped without its input shape.
    """
    terms = {
        name: (middle(added.amounts.get(name, 0)), middle(backbone.amounts.get(name, 0)))
        for name in terms_of(backbone.amounts)
    }
    for name, (more, whole) in terms.items():
        if more and not whole:
            raise MappingError(
                f"{name}: the mapped network has none, so that blocks add no share of it; map it with its input shape."
            )
    return {name: more / whole if more else 0.0 for name, (more, whole) in terms.items()}


def explained(terms: Mapping[str, float]) -> str | None:
    """Return one sentence where blocks take more area than the whole backbone, or None elsewhere."""
    if terms["area"] <= 1:
        return None
    return (
        f"An area of {terms['area']:.0%} is no mistake: blocks keep their weights in SRAM and each has multipliers of "
        "its own, which are far larger than the devices that hold the backbone's weights."
    )


def scalar(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return the weighted sum of cost shares."""
    return sum(weight * terms[name] for name, weight in weights.items())
