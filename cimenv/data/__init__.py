"""Floor 1: data sets by name, the bundled one among them; train / validation / test splits."""

from cimenv.data.data_set import DataSet
from cimenv.data.registry import DATA_SETS, image_shape, load_data
from cimenv.data.splits import DataSplits, ImageSet

__all__ = ["DATA_SETS", "DataSet", "DataSplits", "ImageSet", "image_shape", "load_data"]
