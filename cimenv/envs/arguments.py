"""What users hand to environments, checked where it comes in: one sentence each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from cimenv.core.errors import ConfigError, InvalidActionError, brief, known_name

Booleans = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

MOST_SITES = 100_000  # an observation of so many holds some 14 MB
MOST_STEPS = 10**6
MOST_ENVS = 10**7


def checked_choice(name: str, given: object, known: Sequence[str | None]) -> None:
    """Check that a value is one of a few names.

    Raises:
        UnknownNameError: it is not.
    """
    if given is not None or None not in known:
        known_name(name, given, [one for one in known if one is not None])


def checked_flag(name: str, given: object) -> bool:
    """Return a flag.

    Raises:
        ConfigError: it is neither True nor False.
    """
    if not isinstance(given, bool | np.bool_):
        raise ConfigError(f"{name}: got {brief(given)}; give True or False.")
    return bool(given)


def checked_number(name: str, given: object, *, above: bool = False) -> float:
    """Return a finite number of at least 0, or above it.

    Raises:
        ConfigError: it is none.
    """
    good = isinstance(given, Real) and not isinstance(given, bool | np.bool_)
    if not good or not math.isfinite(value := float(given)) or value < 0 or (above and value == 0):  # type: ignore[arg-type]
        raise ConfigError(f"{name}: got {brief(given)}; give a finite number {'above' if above else 'of at least'} 0.")
    return value


def checked_seed(seed: object) -> int | None:
    """Return the seed of one environment.

    Raises:
        ConfigError: it is no whole number of at least 0.
    """
    if seed is None:
        return None
    if not _whole(seed) or seed < 0:  # type: ignore[operator]
        raise ConfigError(f"seed: got {brief(seed)}; give an int of at least 0, or None.")
    return int(seed)  # type: ignore[call-overload]


def checked_seeds(seed: object, count: int) -> list[int | None]:
    """Return the seeds of many environments: `seed + k` for the k-th, or one from a list.

    Raises:
        ConfigError: they are no whole numbers of at least 0, or of another number than the environments.
    """
    if isinstance(seed, np.ndarray):
        seed = seed.tolist()
    if not isinstance(seed, list | tuple):
        first = checked_seed(seed)
        return [None if first is None else first + k for k in range(count)]
    if len(seed) != count:
        raise ConfigError(f"seed: got a list of {len(seed)}; give one seed for each of the {count} environments.")
    return [checked_seed(one) for one in seed]


def checked_options(options: object, known: Sequence[str], advice: str) -> dict[str, Any]:
    """Return the options of a reset, an own copy.

    Raises:
        ConfigError: they are no mapping, or hold an unknown key.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"reset options: got {brief(options)}; give a mapping or None.")
    for key in options:
        if key not in known:
            raise ConfigError(f"reset options: got unknown key {brief(key)}; {advice}.")
    return dict(options)


def checked_mask(mask: object, count: int) -> Booleans:
    """Return which environments a reset is for.

    Raises:
        ConfigError: it is no boolean array of one value per environment, or chooses none.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (count,):
        what = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else brief(mask)
        raise ConfigError(f"reset_mask: got {what}; give a boolean numpy array [{count}], one value per environment.")
    if not mask.any():
        raise ConfigError("reset_mask: chooses no environment; set at least one value to True.")
    return mask


def checked_actions(actions: object, count: int) -> Integers:
    """Return the actions of many environments as int64; whether they lie in the space is the caller's to check.

    Raises:
        InvalidActionError: they are no whole numbers, or of another number than the environments.
    """
    given = actions
    if isinstance(given, list | tuple) and all(_whole(action) for action in given):
        given = np.array(given)
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iu" or given.shape != (count,):
        what = f"{given.dtype} {list(given.shape)}" if isinstance(given, np.ndarray) else brief(actions)
        raise InvalidActionError(f"actions: got {what}; give an array of {count} integers, one per environment.")
    return given.astype(np.int64, copy=False)


def checked_action(action: object, actions: int) -> int:
    """Return the action of one environment.

    Raises:
        InvalidActionError: it is no whole number, or outside the space.
    """
    whole = _whole(action)
    if isinstance(action, np.ndarray):  # what a policy that predicts for one environment returns
        whole = action.shape == () and action.dtype.kind in "iu"
    if not whole or not 0 <= int(action) < actions:  # type: ignore[call-overload]
        raise InvalidActionError(
            f"action {brief(action)} is outside Discrete({actions}); take an integer from 0 to {actions - 1}."
        )
    return int(action)  # type: ignore[call-overload]


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
