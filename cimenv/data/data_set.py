"""What a data set by name is: the shape of its images, which need not be on this machine, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cimenv.data.splits import DataSplits


@dataclass(frozen=True)
class DataSet:
    """A data set by name. One of one's own is an object of a subclass with `load`.

    Attributes:
        name: by which tasks name it.
        image_shape: of one image, `(channels, height, width)`.
        doc: one sentence on what it is and where it comes from.
    """

    name: str
    image_shape: tuple[int, ...]
    doc: str

    def load(self, root: str | Path | None = None, download: bool = False) -> DataSplits:
        """Return its splits.

        Args:
            root: folder of the real data sets; default the environment variable `CIMENV_DATA`.
            download: fetch it if it is missing.

        Raises:
            DataError: it is missing or damaged.
        """
        raise NotImplementedError
