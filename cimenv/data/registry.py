"""Data sets by name, or a user's own by `package.module:dataset`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cimenv.core.config import call_object
from cimenv.core.errors import DataError, known_name
from cimenv.core.global_state import own_torch_state
from cimenv.data.bundled import fashion_mini
from cimenv.data.splits import DataSplits
from cimenv.data.two_digit import NAME as TWO_DIGIT
from cimenv.data.two_digit import SIDE, two_digit_mnist
from cimenv.data.vision import VISION_SETS, load_vision

DATA_SETS = ("fashion-mini", TWO_DIGIT, *VISION_SETS)


def image_shape(name: str) -> tuple[int, ...]:
    """Return the shape of one image of a data set; a registered one need not be on this machine."""
    if name == "fashion-mini":
        return (1, 28, 28)
    if name == TWO_DIGIT:
        return (1, SIDE, SIDE)
    if name in VISION_SETS:
        return VISION_SETS[name].image_shape
    return load_data(name).image_shape


@own_torch_state()
def load_data(name: str, root: str | Path | None = None, download: bool = False) -> DataSplits:
    """Load a data set.

    Args:
        name: one of `DATA_SETS`, or `package.module:dataset`, a function that returns a `DataSplits`.
        root: folder of the real data sets; default the environment variable `CIMENV_DATA`.
        download: fetch a missing data set (only torchvision's).

    Raises:
        UnknownNameError: no such data set.
        DataError: it is missing or damaged.
        ConfigError: a function of one's own does not exist or fails.
    """
    if isinstance(name, str) and ":" in name:
        loaded = call_object(name)
        if not isinstance(loaded, DataSplits):
            raise DataError(f"data: '{name}' returned a {type(loaded).__name__}; return a cimenv.data.DataSplits.")
        return loaded
    known_name("data set", name, DATA_SETS)
    if name == "fashion-mini":
        return _bundled()
    if name == TWO_DIGIT:
        return two_digit_mnist(root, download)
    return load_vision(name, root, download)


@lru_cache(maxsize=1)  # decompressing it takes longer than a search step
def _bundled() -> DataSplits:
    return fashion_mini()
