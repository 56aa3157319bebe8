"""What a user waits for first: import, the first reset, the demonstration."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

from experiments.lab.folders import results_of
from experiments.lab.measurements import Measurement


def measure_start() -> list[Measurement]:
    """Measure import and first reset in fresh processes, the reset from what ships with the package."""
    light = "import torch, gymnasium, time; t = time.perf_counter(); import cimenv; print(time.perf_counter() - t)"
    reset = (
        "import time, gymnasium, cimenv; e = gymnasium.make('CiMCompensation-v0'); "
        "t = time.perf_counter(); e.reset(seed=0); print(time.perf_counter() - t)"
    )

    def fresh(script: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            printed = subprocess.check_output(
                [sys.executable, "-c", script], env={**os.environ, "CIMENV_CACHE": folder}
            )
        return float(printed)

    imported, begun = (statistics.median(fresh(script) for _ in range(5)) for script in (light, reset))
    return [
        Measurement("import cimenv beyond torch and gymnasium", imported, "s", 0.3),
        Measurement("first reset of the default task, shipped layer", begun, "s", 2.0),
    ]


def measure_demo() -> list[Measurement]:
    """Read what the last `make demo` took."""
    path = results_of("demo") / "summary.json"
    if not path.exists():
        return []
    summary = json.loads(path.read_text())
    return [
        Measurement("make demo after installation", summary["seconds"], "s", 300.0),
        Measurement("make demo, peak memory", summary["peak_memory_gb"], "GB", 2.0),
    ]
