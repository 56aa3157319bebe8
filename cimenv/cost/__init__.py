"""Floor 3: hardware cost of a mapped backbone and of blocks. Each name is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimenv.core.lazy import lazily

if TYPE_CHECKING:
    from cimenv.cost.hardware import Cost, backbone_cost, placement_cost, shares
    from cimenv.cost.term import COST_TERMS, COSTS, CostTerm, Range

__all__ = ["COSTS", "COST_TERMS", "Cost", "CostTerm", "Range", "backbone_cost", "placement_cost", "shares"]

__getattr__ = lazily(
    __name__,
    {
        "COSTS": "cimenv.cost.term",
        "COST_TERMS": "cimenv.cost.term",
        "Cost": "cimenv.cost.hardware",
        "CostTerm": "cimenv.cost.term",
        "Range": "cimenv.cost.term",
        "backbone_cost": "cimenv.cost.hardware",
        "placement_cost": "cimenv.cost.hardware",
        "shares": "cimenv.cost.hardware",
    },
)
