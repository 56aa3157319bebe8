"""Stored weights and multiply-accumulates, which are counted."""

from __future__ import annotations

from cimenv.compensation.options import BlockOption, added_macs, added_weights
from cimenv.cost.term import CostTerm
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.sites import Site


class Weights(CostTerm):
    """Stored weights."""

    name = "weights"

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> int:
        """Return those of a mapped layer."""
        del config
        return site.weights

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> int:
        """Return those of a block, biases included."""
        del config
        return added_weights(option, site)


class Macs(CostTerm):
    """Multiply-accumulates of one inference."""

    name = "macs"

    @classmethod
    def of_site(cls, site: Site, config: CrossbarConfig) -> int:
        """Return those of a mapped layer."""
        del config
        return site.macs

    @classmethod
    def of_block(cls, option: BlockOption, site: Site, config: CrossbarConfig) -> int:
        """Return those of a block."""
        del config
        return added_macs(option, site)
