"""What may be placed at a site, and what it adds."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from cimenv.core.config import Frozen
from cimenv.core.errors import PlacementError, brief
from cimenv.crossbar.sites import Site, SiteType

Kind = Literal["affine", "full", "low_rank", "digital"]
Placement = tuple[int, ...]  # one option index per site, 0 = none


class BlockOption(Frozen):
    """One kind of block at one size.

    `size` is, for `full`, generator filters / output channels; for `low_rank`, rank / output channels; for `digital`,
    the share of output channels kept off the crossbar. `affine` has no size.
    """

    kind: Kind
    size: float = Field(1.0, gt=0, le=4)

    @model_validator(mode="after")
    def _check(self) -> BlockOption:
        if self.kind == "digital" and self.size > 1:
            raise ValueError("a digital share is at most 1")
        return self

    @property
    def label(self) -> str:
        """Return a short name such as `full .25`."""
        return "affine" if self.kind == "affine" else f"{self.kind} {self.size:g}"

    def width(self, site: Site) -> int:
        """Return filters, rank or protected channels at `site`: ceil(size * out_channels)."""
        return math.ceil(self.size * site.out_channels - 1e-9)


def added_weights(option: BlockOption, site: Site) -> int:
    """Return the digital weights (biases included) that a block adds at a site.

    `full`: m(c_in + c_out) + c_out(c_out + m) + m + c_out; `low_rank`: r(c_in + c_out) + c_out r + r + c_out;
    `affine`: a scale and a shift per channel; `digital`: the weights kept off the crossbar.
    """
    c_in, c_out, m = site.in_channels, site.out_channels, option.width(site)
    if option.kind == "affine":
        return 2 * c_out
    if option.kind == "full":
        return m * (c_in + c_out) + c_out * (c_out + m) + m + c_out
    if option.kind == "low_rank":
        return m * (c_in + c_out) + c_out * m + m + c_out
    return m * site.fan_in


def added_macs(option: BlockOption, site: Site) -> int:
    """Return the digital multiply-accumulates that a block adds per image (`affine`: 0, the periphery has them)."""
    c_in, c_out, m = site.in_channels, site.out_channels, option.width(site)
    per_position = {
        "affine": 0,
        "full": m * (c_in + c_out) + c_out * (c_out + m),
        "low_rank": m * (c_in + c_out) + c_out * m,
        "digital": m * site.fan_in,
    }[option.kind]
    return per_position * site.positions


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
