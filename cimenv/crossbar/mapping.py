"""Find the matrices of any `nn.Module` that go onto the crossbar, and name them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cimenv.core.config import checked_int
from cimenv.core.errors import CimenvError, ConfigError, DataError, brief
from cimenv.core.global_state import own_torch_state
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.discovery import Seen, discovered
from cimenv.crossbar.explicit import explicit
from cimenv.crossbar.finding import (
    SitesOfUses,
    refuse_unmapped,
    refuse_unseen,
    sites_of_layers,
    unused_parameters,
)
from cimenv.crossbar.images import shown
from cimenv.crossbar.interception import AtSite, programmed
from cimenv.crossbar.layers import ProgrammedWeight, program_weight
from cimenv.crossbar.names import Named, check_patterns
from cimenv.crossbar.operations import MappedLayer
from cimenv.crossbar.prepared import copied
from cimenv.crossbar.ranges import calibrated_ranges
from cimenv.crossbar.report import MappingReport, Unmapped
from cimenv.crossbar.sites import Site, matrix_of

MOST_DIMENSIONS, LARGEST_IMAGE = 8, 2**28  # of one image, its numbers
VECTOR = 16  # single-precision numbers of a vector register


@dataclass(frozen=True)
class MappedNetwork:
    """A backbone with its crossbar: the module itself is not changed.

    Attributes:
        model: the user's module.
        config: the crossbar.
        sites: mapped matrices, in call order if `input_shape` was given, else in order of definition.
        input_ranges: alpha of every tile of a site, `[tiles]`, by name; needed where the crossbar is analog.
        gains_by_channels_last: whether exact products run faster on channels-last images, and the model takes them.
        report: what is mapped, and what stays digital and why.
        origins: parameters of the module that `model` was copied from: its closures may still use them.
    """

    model: nn.Module
    config: CrossbarConfig
    sites: tuple[Site, ...]
    input_ranges: Mapping[str, Tensor] = field(default_factory=dict)
    gains_by_channels_last: bool = False
    report: MappingReport = field(default_factory=lambda: MappingReport(0, 0, 0))
    origins: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return f"{type(self.model).__name__}: {self.report}"

    @property
    def unmapped(self) -> tuple[Unmapped, ...]:
        """Return the parameters that stay digital, by name, with their shares and the reason."""
        return self.report.unmapped

    @property
    def layout(self) -> torch.memory_format:
        """Return the memory layout in which images are fed: an analog chain works on unfolded patches."""
        return torch.channels_last if self.gains_by_channels_last and not self.analog else torch.contiguous_format

    @property
    def analog(self) -> bool:
        """Return whether any site's products run through the analog chain, so that input ranges are needed."""
        return any(self.config.at(site.name).analog for site in self.sites)

    def weights(self) -> dict[str, Tensor]:
        """Return the nominal weight of every site, `weight_shape`, by site name."""
        return {site.name: matrix_of(self.model, site).detach() for site in self.sites}

    def program(
        self, generator: torch.Generator, device: DeviceModel | None = None, t_s: float = 0.0
    ) -> dict[str, ProgrammedWeight]:
        """Return one freshly programmed chip: noisy weights by site name (differentiable).

        Args:
            generator: draws the chip, and the read noise of its products.
            device: another device model than the crossbar's.
            t_s: seconds after programming.
        """
        return {site.name: self.program_site(site, generator, device=device, t_s=t_s) for site in self.sites}

    def program_site(
        self,
        site: Site,
        generator: torch.Generator,
        *,
        device: DeviceModel | None = None,
        t_s: float = 0.0,
        read: torch.Generator | None = None,
    ) -> ProgrammedWeight:
        """Return the weight of one site on one chip; see `program_weight`."""
        config = self.config.at(site.name)
        return program_weight(
            matrix_of(self.model, site),
            config if device is None else config.model_copy(update={"device": device}),
            generator,
            groups=site.groups,
            input_range=self.input_ranges.get(site.name),
            t_s=t_s,
            read=read,
        )

    @contextmanager
    def programmed(self, weights: Mapping[str, ProgrammedWeight], at_site: AtSite | None = None) -> Iterator[nn.Module]:
        """Run the model with a chip's weights at its sites, in this thread; see `interception.programmed`."""
        with programmed(self.model, weights, self.sites, self.origins, at_site) as model:
            yield model

    @own_torch_state()
    def calibrated(self, images: Tensor, quantile: float | None = None) -> MappedNetwork:
        """Return the network with input ranges: a quantile of |x| at every tile, over images of the clean network.

        Args:
            images: training images, `[n, c, h, w]`.
            quantile: default the crossbar's `input_quantile`.

        Raises:
            DataError: the images are not finite floating-point numbers, or do not pass through the network.
            ConfigError: the quantile is not above 0 and at most 1.
        """
        share = self.config.input_quantile if quantile is None else quantile
        if not 0 < share <= 1:
            raise ConfigError(f"quantile: got {quantile}; give a share of the inputs above 0 and up to 1.")
        with shown(images, self.model):
            ranges = calibrated_ranges(self.model, self.sites, self.config, images, share, self.origins)
        return replace(self, input_ranges=ranges)


@own_torch_state()
def map_network(
    model: nn.Module,
    config: CrossbarConfig,
    input_shape: Sequence[int] | None = None,
    origins: Mapping[str, Tensor] | None = None,
) -> MappedNetwork:
    """Map every matrix that `model` multiplies its data by; biases, norms and embeddings stay digital.

    So do the layers that `config.digital` names. With `input_shape` matrices are found by their use in one forward
    pass, whoever multiplies by them: a layer of torch, a function of torch, a class of the user's. `print` the result
    to see what is mapped and what stays digital.

    Args:
        model: any module; it is not changed. A weight that is used twice is one array and one site. Where it has
            recurrent or attention modules of torch, or parametrised, pruned or compiled ones, an equivalent copy is
            mapped (see `explicit`).
        config: the crossbar.
        input_shape: shape of one image, e.g. `(1, 28, 28)`. With it sites come in call order, with positions and
            MACs, and weights that a forward pass never uses are left out.
        origins: parameters of another module that `model` was copied from, by name.

    Raises:
        MappingError: no matrix can be mapped; one is of a kind that cannot be, or holds NaN; a name pattern of the
            crossbar matches none; or the network is scripted, exported or lazy.
        DataError: an image of `input_shape` does not pass through the model.
        ConfigError: `config` is no crossbar, or `input_shape` no shape.
    """
    if not isinstance(config, CrossbarConfig):
        raise ConfigError(f"config: got {brief(config)}; give a CrossbarConfig, such as preset('pcm').")
    if origins is not None and not isinstance(origins, Mapping):
        raise ConfigError(f"origins: got {brief(origins)}; give parameters by name.")
    input_shape = None if input_shape is None else _checked_shape(input_shape)
    given, model = model, explicit(model, config.digital)
    if model is not given and isinstance(given, nn.Module):
        origins = {**dict(given.named_parameters(remove_duplicate=False)), **(origins or {})}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, MappedLayer)}
    if input_shape is None:
        return _by_definition(model, config, layers)
    refuse_unmapped(Named(model, config.digital))
    seen = _seen(model, tuple(input_shape), origins or {})
    sites, digital, notes = SitesOfUses(model, config, seen, list(layers)).outcome()
    check_patterns("overrides", config.overrides, [site.name for site in sites])
    gains = _wide(sites) and _takes_channels_last(model, tuple(input_shape))
    rest = unused_parameters(model, sites, digital, seen.by_constants)
    if seen.by_values:
        refuse_unseen(model, sites, rest)
    if seen.with_constants:
        digital.append(Unmapped("tensors that are no parameters", 0, seen.with_constants, "buffers and constants"))
    report = MappingReport(
        sum(site.weights for site in sites),
        sum(site.macs for site in sites),
        len(sites),
        (*digital, *rest),
        seen.between_activations,
        notes,
    )
    if report.warning:
        warnings.warn(report.warning, stacklevel=3)
    return MappedNetwork(model, config, sites, {}, gains, report, origins or {})


def _by_definition(model: nn.Module, config: CrossbarConfig, layers: Mapping[str, nn.Module]) -> MappedNetwork:
    """Map the layers of torch, in the order of definition: no forward pass is seen."""
    sites, digital, notes = sites_of_layers(model, config, layers)
    check_patterns("overrides", config.overrides, [site.name for site in sites])
    rest = unused_parameters(model, sites, digital)
    report = MappingReport(sum(site.weights for site in sites), 0, len(sites), (*digital, *rest), 0, notes)
    return MappedNetwork(model, config, sites, {}, False, report)


def _checked_shape(given: Any) -> tuple[int, ...]:
    """Return the shape of one image, of at most `LARGEST_IMAGE` numbers."""
    shape = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else ()
    if not 0 < len(shape) <= MOST_DIMENSIONS:
        raise ConfigError(f"input_shape: got {brief(given)}; give the shape of one image, such as (1, 28, 28).")
    sizes = tuple(checked_int("input_shape", size, 1, LARGEST_IMAGE) for size in shape)
    checked_int("input_shape, its product", math.prod(sizes), 1, LARGEST_IMAGE)
    return sizes


def _seen(model: nn.Module, input_shape: tuple[int, ...], origins: Mapping[str, Tensor]) -> Seen:
    """Run one forward pass, of shapes alone where that is possible, and return the products that it has."""
    origins = {**dict(model.named_parameters(remove_duplicate=False)), **origins}
    try:
        return _passed(copied(model, "meta"), torch.empty(1, *input_shape, device="meta"), origins)
    except (DataError, NotImplementedError):
        if any(parameter.is_meta for parameter in model.parameters()):
            raise
    # Control flow on values, or an operator without a meta kernel: run one real image instead.
    return replace(_passed(copied(model), torch.zeros(1, *input_shape), origins), by_values=True)


def _passed(model: nn.Module, image: Tensor, origins: Mapping[str, Tensor]) -> Seen:
    try:
        seen = discovered(model.eval(), image, {k: v for k, v in origins.items() if v.dim() > 1})
    except (NotImplementedError, CimenvError):
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        raise DataError(
            f"An image of shape {tuple(image.shape[1:])} does not pass through {type(model).__name__} "
            f"({(str(error) or type(error).__name__).splitlines()[0]}); give data or a backbone whose shapes fit."
        ) from None
    return seen


def _wide(sites: Sequence[Site]) -> bool:
    """Return whether most products are of convolutions whose channels fill vector registers: a measured rule."""
    images = [site for site in sites if len(site.weight_shape) == 4]
    wide = sum(s.macs for s in images if s.in_channels % VECTOR == 0 and s.out_channels % VECTOR == 0)
    return 2 * wide > sum(site.macs for site in sites)


def _takes_channels_last(model: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Return whether the model runs on channels-last images: one that calls `view` on feature maps does not."""
    if len(input_shape) != 3 or any(parameter.is_meta for parameter in model.parameters()):
        return False
    try:
        with torch.no_grad():
            copied(model).eval()(torch.zeros(2, *input_shape).to(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True
