"""Floor 2: block options, blocks and the bank: modules only, no fitting."""

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.block import BLOCKS, Block
from cimenv.compensation.options import BlockOption, Options, Placement, added_macs, added_weights

__all__ = ["BLOCKS", "Block", "BlockOption", "CompensationBank", "Options", "Placement", "added_macs", "added_weights"]
