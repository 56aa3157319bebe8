"""Floor 3: hardware cost of a mapped backbone and of blocks."""

from cimenv.cost.hardware import Cost, Range, backbone_cost, placement_cost, shares

__all__ = ["Cost", "Range", "backbone_cost", "placement_cost", "shares"]
