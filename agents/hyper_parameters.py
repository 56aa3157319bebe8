"""What an algorithm's hyper-parameters may be: types from its own signature, ranges from what they mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field, create_model
from stable_baselines3.common.base_class import BaseAlgorithm

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError

GIVEN = ("policy", "env", "seed", "device", "tensorboard_log", "_init_setup_model")  # by the run itself
SHARE = Field(ge=0, le=1)
RANGES = {
    "learning_rate": Field(gt=0, le=10),
    "gamma": SHARE,
    "gae_lambda": SHARE,
    "tau": SHARE,
    "exploration_fraction": SHARE,
    "exploration_initial_eps": SHARE,
    "exploration_final_eps": SHARE,
    "clip_range": Field(gt=0, le=1e3),
    "clip_range_vf": Field(gt=0, le=1e3),
    "target_kl": Field(gt=0, le=1e3),
    "max_grad_norm": Field(gt=0, le=1e9),
    "rms_prop_eps": Field(gt=0, le=1),
    "ent_coef": Field(ge=-1e3, le=1e3),
    "vf_coef": Field(ge=0, le=1e3),
    "n_steps": Field(ge=1, le=1_000_000),
    "batch_size": Field(ge=1, le=1_000_000),
    "n_epochs": Field(ge=1, le=10_000),
    "buffer_size": Field(ge=1, le=10_000_000),
    "learning_starts": Field(ge=0, le=10**9),
    "gradient_steps": Field(ge=-1, le=100_000),
    "sde_sample_freq": Field(ge=-1, le=10**9),
    "target_update_interval": Field(ge=1, le=10**9),
    "stats_window_size": Field(ge=1, le=1_000_000),
    "verbose": Field(ge=0, le=2),
}
FREQUENCY = Annotated[int, Field(ge=1, le=10**6)]
WIDEST = 16_384  # units of a layer


def checked(algorithm: type[BaseAlgorithm], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters, once it is known that the algorithm takes them.

    Raises:
        ConfigError: an unknown one, or one of the wrong type, sign or size.
    """
    fields: dict[str, Any] = {
        name: (_annotation(name, parameter.annotation), None)
        for name, parameter in inspect.signature(algorithm, eval_str=True).parameters.items()
        if name not in GIVEN and not any(get_origin(part) is type for part in _parts(parameter.annotation))
    }
    model = create_model("hyper_parameters", __base__=Unset, **fields)
    parameters: dict[str, Any] = model.model_validate(dict(given)).model_dump(exclude_unset=True)
    for size in _whole_numbers(parameters.get("policy_kwargs")):
        if size > WIDEST:
            raise ConfigError(f"hyper_parameters.policy_kwargs: got a size of {size}; take at most {WIDEST}.")
    return parameters


class Unset(Frozen):
    """Fields without a default of their own: those that are not given are the algorithm's."""

    model_config = {**Frozen.model_config, "validate_default": False}


def _annotation(name: str, told: Any) -> Any:
    """Return the type of a hyper-parameter as YAML can give it, with its range."""
    if name == "train_freq":
        return FREQUENCY | tuple[FREQUENCY, Literal["step", "episode"]]
    kinds = [part for part in _parts(told) if get_origin(part) is not Callable]  # a schedule is a function
    bounded = [Annotated[kind, RANGES[name]] if kind in (int, float) and name in RANGES else kind for kind in kinds]
    return reduce(or_, bounded)


def _parts(told: Any) -> tuple[Any, ...]:
    return get_args(told) if get_origin(told) in (Union, UnionType) else (told,)


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _whole_numbers(part)
    elif isinstance(value, int):
        yield value
