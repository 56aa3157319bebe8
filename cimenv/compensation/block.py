"""What a kind of compensation block is, and every one by its name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from cimenv.core.registry import Registry
from cimenv.crossbar.layers import ProgrammedWeight
from cimenv.crossbar.sites import Site


class Block(nn.Module):
    """A kind of block: what it adds, what it computes, what it is called; an object of it serves one site.

    A kind of one's own is a subclass with a `kind`, `weights` and `macs`, parameters, and `forward`, which begins as
    the identity on `y`.

    Args:
        site: the layer whose output it compensates.
        width: filters or ranks of the largest size; a smaller size uses the first of them.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # bumped when what it computes changes
    sized: ClassVar[bool] = True  # whether there are several sizes of it
    largest_size: ClassVar[float] = 4.0
    on_weights: ClassVar[bool] = False  # whether it changes the site's weights, and has nothing to fit

    def __init__(self, site: Site, width: int) -> None:
        super().__init__()
        del width
        self.conv = site.type == "conv"

    @classmethod
    def weights(cls, site: Site, width: int) -> int:
        """Return the digital weights that it adds at a site, biases included."""
        raise NotImplementedError

    @classmethod
    def macs(cls, site: Site, width: int) -> int:
        """Return the multiply-accumulates that it adds at every position of a site's output."""
        raise NotImplementedError

    @classmethod
    def label(cls, size: float) -> str:
        """Return a short name such as `full .25`."""
        return f"{cls.kind} {size:g}" if cls.sized else cls.kind

    @classmethod
    def weight(
        cls, size: float, nominal: Tensor, programmed: ProgrammedWeight, order: Tensor | None = None
    ) -> ProgrammedWeight:
        """Return the weight that the site computes with.

        Args:
            size: of the block.
            nominal: the weight without variation.
            programmed: the chip's.
            order: output channels, those that deserve exact weights most first; None where nobody said.
        """
        del size, nominal, order
        return programmed

    def forward(self, x: Tensor, y: Tensor, width: int) -> Tensor:
        """Return the compensated output of the site, with the first `width` filters (ranks).

        Args:
            x: the site's input, `[n, c_in, h, w]` or `[..., c_in]`.
            y: the site's erroneous output, `[n, c_out, h', w']` or `[..., c_out]`.
            width: of the placed size.
        """
        raise NotImplementedError


BLOCKS: Registry[type[Block]] = Registry(
    "block kind",
    Block,
    {
        "affine": "cimenv.compensation.blocks:AffineBlock",
        "full": "cimenv.compensation.blocks:FullBlock",
        "low_rank": "cimenv.compensation.blocks:LowRankBlock",
        "digital": "cimenv.compensation.blocks:Digital",
    },
)
