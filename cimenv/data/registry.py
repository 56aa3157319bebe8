"""Data sets by name, or a user's own by `package.module:dataset`."""

from __future__ import annotations

from pathlib import Path

from cimenv.core.config import call_object
from cimenv.core.errors import DataError
from cimenv.core.global_state import own_torch_state
from cimenv.core.registry import Registry
from cimenv.data.data_set import DataSet
from cimenv.data.splits import DataSplits

DATA_SETS: Registry[DataSet] = Registry(
    "data set",
    DataSet,
    {
        "fashion-mini": "cimenv.data.bundled:FASHION_MINI",
        "two-digit-mnist": "cimenv.data.two_digit:TWO_DIGIT",
        "mnist": "cimenv.data.vision:MNIST",
        "fashion": "cimenv.data.vision:FASHION",
        "cifar10": "cimenv.data.vision:CIFAR10",
        "cifar100": "cimenv.data.vision:CIFAR100",
    },
    tag="name",
    objects=True,
)


def image_shape(name: str) -> tuple[int, ...]:
    """Return the shape of one image of a data set; a registered one need not be on this machine."""
    return DATA_SETS[name].image_shape if name in DATA_SETS else load_data(name).image_shape


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
    if not isinstance(name, str) or ":" not in name:
        return DATA_SETS[name].load(root, download)
    loaded = call_object(name)
    if not isinstance(loaded, DataSplits):
        raise DataError(f"data: '{name}' returned a {type(loaded).__name__}; return a cimenv.data.DataSplits.")
    return loaded
