"""Measure the engine on a GPU: `python -m experiments.gpu`. One run; medians of three after a first one.

Leaves results/gpu/bench.json and table.md.
"""

from __future__ import annotations

import torch

from cimenv.core.device import checked_device
from experiments.gpu.measure import CHIPS, full_width, recording
from experiments.lab.folders import results_of
from experiments.lab.measurements import write_measurements


def main() -> None:
    """Measure everything."""
    checked_device("cuda")
    everything = full_width()
    everything += recording("vgg16-two-digit", 2_000, (1, 32, 32), 8, 64)
    everything += recording("lenet5-fashion-mini", 1_000, (1, 28, 28), CHIPS, 256)
    write_measurements(everything, results_of("gpu"), {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__})


if __name__ == "__main__":
    main()
