"""A policy that reads sites as tokens: the same weights serve any number of sites, in any order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import gymnasium as gym
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, UnknownNameError, brief
from cimenv.envs.arguments import checked_flag
from cimenv.envs.observation import ObservationLayout

MOST_SITES = 512
TOKENS = ("width", "layers", "heads", "ignored", "led_by")


def layouts_of(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> list[ObservationLayout]:
    """Return every layout of `CiMCompensation-v0`, own features aside, that has the sizes of the spaces."""
    count = int(getattr(action_space, "n", 0)) - 1
    splits = [sites for sites in range(1, min(MOST_SITES, count) + 1) if count % sites == 0]
    every = [ObservationLayout(sites, count // sites, log) for sites in splits for log in (False, True)]
    return [layout for layout in every if _fits(layout, observation_space, action_space)]


def _fits(layout: ObservationLayout, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> bool:
    """Return whether observations and actions have the sizes of the spaces."""
    actions = 1 + layout.max_sites * layout.options
    return (layout.size,) == observation_space.shape and actions == getattr(action_space, "n", None)


def layout_of(
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    told: ObservationLayout | Mapping[str, Any] | None = None,
) -> ObservationLayout:
    """Return the given layout, checked against the spaces.

    Args:
        observation_space: of `CiMCompensation-v0` or its tabular twin.
        action_space: its actions.
        told: the environment's `layout`, or its `arguments`: `max_sites`, `options`, `fit_log` and `features`. None, as
            in policies that were saved before they were told, is enough where a single layout fits.

    Raises:
        ConfigError: the layout does not fit the spaces; none was told and several fit, or none.
    """
    spaces = _spaces(observation_space, action_space)
    if told is not None:
        layout = told if isinstance(told, ObservationLayout) else _layout(told)
        if _fits(layout, observation_space, action_space):
            return layout
        raise ConfigError(
            f"layout: {layout} does not fit {spaces}; give the layout of the environment, env.unwrapped.layout."
        )
    fitting = layouts_of(observation_space, action_space)
    if len(fitting) > 1:
        raise ConfigError(
            f"layout: {' and '.join(map(str, fitting))} fit {spaces}; give the one of the environment, "
            "policy_kwargs={'layout': env.unwrapped.layout.arguments}."
        )
    if not fitting:
        raise ConfigError(
            f"policy: {spaces} are not those of CiMCompensation-v0; use MlpPolicy for other environments."
        )
    return fitting[0]


def _layout(told: object) -> ObservationLayout:
    if not isinstance(told, Mapping) or not {"max_sites", "options"} <= told.keys() <= {*ObservationLayout.ARGUMENTS}:
        raise ConfigError(f"layout: got {brief(told)}; give a mapping of max_sites, options, fit_log and features.")
    sites, options = (checked_int(f"layout.{name}", told[name], 1) for name in ("max_sites", "options"))
    log = checked_flag("layout.fit_log", told.get("fit_log", False))
    return ObservationLayout(sites, options, log, told.get("features", ()))


def _spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> str:
    size = observation_space.shape[0] if observation_space.shape else 0
    return f"observations of size {size} and {int(getattr(action_space, 'n', 0))} actions"


class SiteTokens(BaseFeaturesExtractor):
    """Attention over sites. Every token is a site's numbers beside the global ones; depth is among them, order is not.

    The features are the logits of all actions, `[1 + sites * options]`, stop first, and then what the value is read
    from, `[width]`.

    Args:
        observation_space: of the environment.
        layout: of its observations.
        width: of a token.
        layers: of attention.
        heads: of attention.
        ignored: patterns of names of numbers that are not read, such as `type_*`, in which unseen networks may differ.
        led_by: numbers of every option, such as `logged`, that are added to the options' logits, and the factor that
            this begins with, which is learned. Untrained, a policy led by what the bank's fit logged places every block
            that is worth more than its cost, the best one first.

    Raises:
        ConfigError: a size is below 1, `width` is no multiple of `heads`, `led_by` names no numbers of the options, or
            a factor is not above 0.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        layout: ObservationLayout,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        ignored: Sequence[str] = (),
        led_by: Mapping[str, Any] | None = None,
    ) -> None:
        for name, size in (("width", width), ("layers", layers), ("heads", heads)):
            checked_int(f"tokens.{name}", size, 1)
        if width % heads:
            raise ConfigError(f"tokens.width: got {width}; give a multiple of the {heads} heads.")
        if not isinstance(ignored, list | tuple) or not all(isinstance(pattern, str) for pattern in ignored):
            raise ConfigError(f"tokens.ignored: got {brief(ignored)}; give a list of patterns.")
        if not isinstance(led_by, Mapping | None):
            raise ConfigError(f"tokens.led_by: got {brief(led_by)}; give a mapping of names to factors.")
        self.actions = 1 + layout.max_sites * layout.options
        super().__init__(observation_space, self.actions + width)
        self.sites, self.fields = layout.max_sites, len(layout.site_fields)
        self.valid = layout.site_fields.index("valid")
        names = (*layout.site_fields, *layout.global_fields)
        read = torch.tensor([not any(fnmatchcase(name, pattern) for pattern in ignored) for name in names])
        self.read: Tensor
        self.register_buffer("read", read.float(), persistent=False)
        leaders = dict(led_by or {})
        for name, factor in leaders.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
                told = f"{factor:g}" if isinstance(factor, float) else brief(factor)
                raise ConfigError(f"led_by.{name}: got {told}; give a finite factor above 0.")
        self.led_by = {name: self._columns(layout, name) for name in leaders}
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(factor))) for name, factor in leaders.items()}
        )
        self.embed = nn.Linear(len(names), width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.place, self.stop = nn.Linear(width, layout.options), nn.Linear(width, 1)
        for head in (self.place, self.stop):  # all actions alike at first
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, observations: Tensor) -> Tensor:
        """Return the features of observations `[n, size]`."""
        split = self.sites * self.fields
        by_site = observations[:, :split].unflatten(1, (self.sites, self.fields))
        used = self._sites_used(by_site)
        by_site = by_site[:, :used]
        everywhere = observations[:, None, split:].expand(-1, used, -1)
        valid = by_site[..., self.valid] > 0
        numbers = torch.cat([by_site, everywhere], -1) * self.read
        tokens = self.encoder(self.embed(numbers), src_key_padding_mask=~valid)
        shares = valid.float() / valid.sum(1, keepdim=True).clamp_min(1)
        pooled = (tokens * shares[..., None]).sum(1)
        placing = self.place(tokens)
        for name, columns in self.led_by.items():
            placing = placing + self.factors[name].exp() * by_site[..., columns]
        options = nn.functional.pad(placing, (0, 0, 0, self.sites - used))
        return torch.cat([self.stop(pooled), options.flatten(1), pooled], 1)

    @staticmethod
    def _columns(layout: ObservationLayout, name: str) -> slice:
        """Return where a site's numbers of the options stand."""
        first = f"{name}_1"
        if first not in layout.site_fields:
            raise ConfigError(f"led_by: observations hold no {name} of the options; make the environment with it.")
        start = layout.site_fields.index(first)
        return slice(start, start + layout.options)

    def _sites_used(self, by_site: Tensor) -> int:
        """Return how many sites the largest network of a batch has; the rest is padding, which cannot be chosen."""
        valid = (by_site[..., self.valid] > 0).any(0).nonzero()
        return int(valid.max()) + 1 if len(valid) else 1


class _Part(nn.Module):
    """Takes a range of its input's columns."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.range = slice(start, stop)

    def forward(self, features: Tensor) -> Tensor:
        return features[:, self.range]


class SitePolicy(MaskableActorCriticPolicy):
    """An actor-critic policy on `SiteTokens`, for MaskablePPO.

    `MaskablePPO(SitePolicy, env, policy_kwargs={"layout": env.unwrapped.layout.arguments})`

    Args:
        observation_space: of `CiMCompensation-v0` or its tabular twin, padded by `max_sites` or not.
        action_space: its actions.
        lr_schedule: of the optimiser.
        layout: of the observations: an `ObservationLayout` or its `arguments`; may be left out where a single one fits
            the spaces.
        tokens: arguments of `SiteTokens`: `width`, `layers`, `heads`, `ignored`, `led_by`.
        more: further arguments of SB3's policy.

    Raises:
        ConfigError: the layout does not fit the spaces, several fit them and none is told, or they are not of that
            environment; an unknown or unfit argument of `tokens`.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        lr_schedule: Schedule,
        layout: ObservationLayout | Mapping[str, Any] | None = None,
        tokens: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        described = layout_of(observation_space, action_space, layout)
        if tokens is not None and not isinstance(tokens, Mapping):
            raise ConfigError(f"tokens: got {brief(tokens)}; give a mapping of {', '.join(TOKENS)}.")
        for name in tokens or {}:
            if name not in TOKENS:
                raise UnknownNameError("argument of tokens", name, TOKENS)
        self.layout, self.tokens = described.arguments, dict(tokens or {})
        kwargs = {"layout": described, **self.tokens}
        more |= {"net_arch": [], "features_extractor_class": SiteTokens, "features_extractor_kwargs": kwargs}
        more["ortho_init"] = False
        super().__init__(observation_space, action_space, lr_schedule, **more)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        extractor = self.features_extractor
        assert isinstance(extractor, SiteTokens)
        self.action_net = _Part(0, extractor.actions)
        width = self.features_dim - extractor.actions
        self.value_net = nn.Sequential(  # type: ignore[assignment]
            _Part(extractor.actions, self.features_dim), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        for name in ("net_arch", "features_extractor_class", "features_extractor_kwargs", "ortho_init"):
            parameters.pop(name, None)
        return {**parameters, "layout": self.layout, "tokens": self.tokens}
