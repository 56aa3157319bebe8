"""What may be placed at a site, and what it adds."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator, model_validator

from cimenv.compensation.block import BLOCKS, Block
from cimenv.core.config import Frozen
from cimenv.core.errors import PlacementError, brief
from cimenv.crossbar.sites import Site, SiteType

Placement = tuple[int, ...]  # one option index per site, 0 = none


class BlockOption(Frozen):
    """One kind of block at one size.

    `kind` is a name in `BLOCKS`, or `package.module:Class` of a block of one's own. `size` is, for `full`, generator
    filters / output channels; for `low_rank`, rank / output channels; for `digital`, the share of output channels kept
    off the crossbar. `affine` has no size.
    """

    kind: str = Field(json_schema_extra={"enum": list(BLOCKS)})
    size: float = Field(1.0, gt=0, le=4)

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return BLOCKS.written(BLOCKS.find(kind))

    @model_validator(mode="after")
    def _check(self) -> BlockOption:
        if self.size > (largest := self.block.largest_size):
            raise ValueError(f"the size of a block of kind {self.kind} is at most {largest:g}")
        return self

    @property
    def block(self) -> type[Block]:
        """Return the class of the block."""
        return BLOCKS.find(self.kind)

    @property
    def label(self) -> str:
        """Return a short name such as `full .25`."""
        return self.block.label(self.size)

    def width(self, site: Site) -> int:
        """Return filters, rank or protected channels at `site`: ceil(size * out_channels)."""
        return math.ceil(self.size * site.out_channels - 1e-9)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return state if BLOCKS.is_built_in(self.kind) else {**state, "class": self.block}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        if "class" in state:  # of the user's own, whose module may have come with the pickle
            BLOCKS.written(state.pop("class"))
        super().__setstate__(state)


def added_weights(option: BlockOption, site: Site) -> int:
    """Return the digital weights (biases included) that a block adds at a site."""
    return option.block.weights(site, option.width(site))


def added_macs(option: BlockOption, site: Site) -> int:
    """Return the digital multiply-accumulates that a block adds per image (`affine`: 0, the periphery has them)."""
    return option.block.macs(site, option.width(site)) * site.positions


@dataclass(frozen=True)
class Options:
    """The block options at every site: index 0 is "none", index o > 0 is `per_site[s][o - 1]`."""

    sites: tuple[Site, ...]
    per_site: tuple[tuple[BlockOption, ...], ...]

    @property
    def count(self) -> int:
        """Return the largest number of options at any site."""
        return max((len(options) for options in self.per_site), default=0)

    def block(self, site: int, option: int) -> BlockOption | None:
        """Return the block that `option` means at `site`, None for 0."""
        return self.per_site[site][option - 1] if option else None

    def blocks(self, placement: Placement) -> tuple[BlockOption | None, ...]:
        """Return the block at every site."""
        return tuple(self.block(s, o) for s, o in enumerate(self.checked(placement)))

    def checked(self, placement: Sequence[int]) -> Placement:
        """Return the placement as a tuple of ints.

        Raises:
            PlacementError: wrong length, or an option that is out of range or no whole number.
        """
        try:
            values = tuple(operator.index(option) for option in placement)
        except TypeError:
            raise PlacementError(
                f"placement {brief(placement)}: give one option index, an int, for each site."
            ) from None
        if len(values) != len(self.sites):
            raise PlacementError(
                f"placement {brief(values)} has {len(values)} entries; give one option index for each of the "
                f"{len(self.sites)} sites: {', '.join(site.name for site in self.sites)}."
            )
        for s, option in enumerate(values):
            if not 0 <= option <= len(self.per_site[s]):
                raise PlacementError(
                    f"placement {brief(values)}: option {brief(option)} at site {s} ({self.sites[s].name}) does not "
                    f"exist; use 0 for none or 1 to {len(self.per_site[s])}."
                )
        return values


def options_by_type(sites: Sequence[Site], by_type: dict[SiteType, tuple[BlockOption, ...]]) -> Options:
    """Give every site the options of its type; a type that is not named gets none."""
    return Options(tuple(sites), tuple(by_type.get(site.type, ()) for site in sites))
