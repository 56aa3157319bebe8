"""A site in the header of an enumeration: everything that placements and their costs depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from cimenv.core.config import Frozen
from cimenv.crossbar.sites import Site, SiteType

Size = Annotated[int, Field(ge=1, le=10**12)]


class SiteShape(Frozen):
    """A site without where its weight lies in the network; see `Site`."""

    name: str
    type: SiteType
    weight_shape: tuple[Size, ...]
    in_channels: Size
    out_channels: Size
    fan_in: Size
    positions: Size
    calls: Size
    bias: bool
    groups: Size = 1

    @staticmethod
    def of(sites: Sequence[Site]) -> tuple[SiteShape, ...]:
        """Return the shapes of sites."""
        return tuple(SiteShape(**{name: getattr(site, name) for name in SiteShape.model_fields}) for site in sites)

    def site(self) -> Site:
        """Return the site, which belongs to no network."""
        return Site(**{name: getattr(self, name) for name in SiteShape.model_fields})
