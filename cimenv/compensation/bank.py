"""The bank: one set of shared, slimmable blocks for all sites and options of a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cimenv.compensation.block import BLOCKS, Block
from cimenv.compensation.options import BlockOption, Options, Placement
from cimenv.crossbar.interception import AtSite, SiteCall, observed
from cimenv.crossbar.layers import ProgrammedWeight

ORDER = "order_"  # name of what `protect` keeps


class CompensationBank(nn.Module):
    """Blocks for every (site, option); the sizes of one kind at one site share their weights.

    Args:
        options: sites and what may be placed there.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.sites = nn.ModuleList(nn.ModuleDict(_modules(options, s)) for s in range(len(options.sites)))

    def block(self, site: int, option: BlockOption) -> Block:
        """Return the module that serves `option` at site number `site`."""
        blocks = self.sites[site]
        assert isinstance(blocks, nn.ModuleDict)
        module = blocks[_name(option.kind)]
        assert isinstance(module, Block)
        return module

    def compensate(self, site: int, option: BlockOption | None, x: Tensor, y: Tensor) -> Tensor:
        """Return the output of a site after its block.

        Args:
            site: number of the site.
            option: the block; None, or one on weights, for no change (see `site_weight`).
            x: the site's input, `[n, c_in, h, w]` or `[..., c_in]`.
            y: the site's erroneous output, `[n, c_out, h', w']` or `[..., c_out]`.
        """
        if option is None or option.block.on_weights:
            return y
        block = self.block(site, option)
        return block(x, y, option.width(self.options.sites[site]))

    def protect(self, scores: Mapping[str, Tensor]) -> None:
        """Say which channels `digital` options under size 1 keep: those with the highest scores.

        Args:
            scores: `[out]` by site name.
        """
        for s, site in enumerate(self.options.sites):
            order = scores[site.name].argsort(descending=True, stable=True)
            self.register_buffer(f"{ORDER}{s}", order)

    def order(self, site: int) -> Tensor | None:
        """Return the channels of a site, the most sensitive first, or None where no order is known."""
        channels = getattr(self, f"{ORDER}{site}", None)
        assert channels is None or isinstance(channels, Tensor)
        return channels

    def used_parameters(self, placement: Placement) -> list[nn.Parameter]:
        """Return the parameters that a placement uses."""
        blocks = enumerate(self.options.blocks(placement))
        used = [self.block(s, o) for s, o in blocks if o is not None and not o.block.on_weights]
        return [parameter for block in used for parameter in block.parameters()]

    @contextmanager
    def inserted(
        self, network: nn.Module, placement: Placement, origins: Mapping[str, Tensor] | None = None
    ) -> Iterator[nn.Module]:
        """Run `network` with this placement's blocks behind its sites, in this thread; leaves no trace.

        Inside `programmed` the blocks stand behind the chip's products. Options on weights, such as `digital`, need the
        chip's: apply `site_weights` to them first.

        Args:
            network: the one that the sites belong to.
            placement: one option index per site.
            origins: parameters of the network that this one was copied from, see `StoredWeights`.
        """
        sites = zip(self.options.sites, self.options.blocks(placement), strict=True)
        placed = [site for site, option in sites if option is not None and not option.block.on_weights]
        with observed(network, placed, self.at_sites(placement), origins):
            yield network

    def at_sites(self, placement: Placement) -> AtSite:
        """Return a function that gives a placement's outputs at every site from the product there, for `programmed`."""
        blocks = self.options.blocks(placement)
        placed = {site.name: (s, blocks[s]) for s, site in enumerate(self.options.sites)}

        def compensated(call: SiteCall) -> Tensor:
            return self.compensate(*placed[call.site], call.x, call.outputs())

        return compensated


def site_weight(
    option: BlockOption | None, nominal: Tensor, programmed: ProgrammedWeight, order: Tensor | None = None
) -> ProgrammedWeight:
    """Return the weight a site computes with under an option; see `Block.weight`."""
    return programmed if option is None else option.block.weight(option.size, nominal, programmed, order)


def site_weights(
    bank: CompensationBank,
    placement: Placement,
    nominal: Mapping[str, Tensor],
    programmed: Mapping[str, ProgrammedWeight],
) -> dict[str, ProgrammedWeight]:
    """Return the weights of every site under a placement, by site name."""
    blocks = zip(bank.options.sites, bank.options.blocks(placement), strict=True)
    return {
        site.name: site_weight(option, nominal[site.name], programmed[site.name], bank.order(s))
        for s, (site, option) in enumerate(blocks)
    }


def _modules(options: Options, site: int) -> dict[str, nn.Module]:
    here = options.sites[site]
    widest: dict[str, int] = {}
    for option in options.per_site[site]:
        if not option.block.on_weights:
            widest[option.kind] = max(widest.get(option.kind, 0), option.width(here))
    return {_name(kind): BLOCKS.find(kind)(here, width) for kind, width in widest.items()}


def _name(kind: str) -> str:
    """Return the name of a kind's module: torch takes none with dots."""
    return kind.replace(".", "/")


def bank_arrays(bank: CompensationBank) -> dict[str, Tensor]:
    """Return the bank's weights by name, detached."""
    return {name: value.detach() for name, value in bank.state_dict().items()}


def bank_from(options: Options, arrays: Mapping[str, Tensor]) -> CompensationBank:
    """Return a bank with the weights that `bank_arrays` gave."""
    with torch.device("meta"):
        bank = CompensationBank(options)
        for name, value in arrays.items():
            if name.startswith(ORDER):
                bank.register_buffer(name, torch.empty_like(value))
    bank.load_state_dict(dict(arrays), assign=True)
    return bank.eval().requires_grad_(False)
