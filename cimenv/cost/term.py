"""What a term of the cost is, and every one by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cimenv.core.registry import Registry

if TYPE_CHECKING:
    from cimenv.compensation.options import BlockOption
    from cimenv.crossbar.config import CrossbarConfig
    from cimenv.crossbar.sites import Site


@dataclass(frozen=True)
class Range:
    """A quantity known only within a range."""

    low: float = 0.0
    high: float = 0.0

    @property
    def middle(self) -> float:
        """Return the geometric mean, with which ranges enter the scalar cost."""
        return math.sqrt(self.low * self.high)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)


Amount = int | float | Range


def middle(amount: Amount) -> float:
    """Return the one number by which an amount counts."""
    return amount.middle if isinstance(amount, Range) else amount


class CostTerm:
    """A quantity of the hardware: what the mapped backbone has of it, and what blocks add.

    A term of one's own is a subclass with a `name`. Budgets, cost weights and shares know it where a task names it, and
    nothing else changes.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    zero: ClassVar[Amount] = 0  # a `Range()` where amounts are ranges

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> Amount:
        """Return what one mapped layer has on the crossbar; `config` is that of its site."""
        raise NotImplementedError

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> Amount:
        """Return the cost that a block adds at a site."""
        raise NotImplementedError

    @classmethod
    def field(cls) -> str:
        """Return the name with the unit, such as `energy_pj`."""
        return f"{cls.name}_{cls.unit.lower()}" if cls.unit else cls.name


COSTS: Registry[type[CostTerm]] = Registry(
    "cost term",
    CostTerm,
    {
        "weights": "cimenv.cost.counts:Weights",
        "macs": "cimenv.cost.counts:Macs",
        "energy": "cimenv.cost.energy:Energy",
        "area": "cimenv.cost.area:Area",
        "latency": "cimenv.cost.latency:Latency",
    },
    tag="name",
)
COST_TERMS = COSTS.built_in
