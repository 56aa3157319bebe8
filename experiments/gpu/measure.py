"""The engine on a GPU, beside plain forwards. Weights are drawn, not trained: time does not depend on them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cimenv.core.precision import Precision, arithmetic
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.memory import GIB, KEPT
from cimenv.evaluation.prefix import PrefixCache
from cimenv.tasks import load_task
from cimenv.tasks.space import PlacementSpace
from experiments.lab.measurements import Measurement
from experiments.lab.timing import Shape, seconds, untrained

CHIPS, RUNS, MATRIX = 25, 3, 8192
BATCHES = (500, 1000, 2000, 5000)
LIMIT = 40 * GIB  # of memory


def median(call: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median wall time of a call, in seconds, after a first one; waits for the GPU."""

    def whole() -> None:
        call()
        torch.cuda.synchronize()

    return statistics.median([seconds(whole) for _ in range(runs + 1)][1:])


def matrix_rate(dtype: torch.dtype) -> float:
    """Return the rate of a product of square matrices, in 1e12 operations a second."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=dtype) for _ in range(2))
    return float(2 * MATRIX**3 / median(lambda: a @ b, 9) / 1e12)


def on_gpu(engine: Callable[..., Engine], **settings: Any) -> Engine:
    """Return an engine that computes on the GPU and keeps its chips there."""
    return engine(device="cuda", memory_limit=LIMIT, cache=PrefixCache(int(KEPT * LIMIT)), **settings)


def full_width(images: int = 10_000) -> list[Measurement]:
    """Time full-width VGG-16 without blocks beside plain forwards, and as a share of the matrix rate."""
    measurements, task = [], load_task("vgg16-two-digit")
    task = task.with_changes(backbone_args={**task.backbone_args, "width": 1.0})
    precisions: Sequence[tuple[str, Precision, torch.dtype]] = (
        ("TF32", "float32", torch.float32),
        ("bfloat16", "bfloat16", torch.bfloat16),
    )
    for label, precision, dtype in precisions:
        torch.backends.cuda.matmul.allow_tf32 = True
        rate = matrix_rate(dtype)
        torch.backends.cuda.matmul.allow_tf32 = False
        network, x, engine = untrained(task, images, (1, 32, 32))
        operations = 2 * sum(site.macs for site in network.sites) * images * CHIPS / 1e12
        none = [(0,) * len(network.sites)]
        fresh = partial(on_gpu, engine, precision=precision)
        cold = seconds(lambda fresh=fresh, none=none: fresh().run(none, range(CHIPS)))  # type: ignore[misc]
        kept = fresh()
        warm = median(lambda kept=kept, none=none: kept.run(none, range(CHIPS)))  # type: ignore[misc]
        plain = best_plain(kept, x, precision)
        measurements += [
            Measurement(f"rate of products of {MATRIX} x {MATRIX} matrices, {label}", rate, "TFLOP/s"),
            Measurement(f"VGG-16, full width, {CHIPS} chips x {images:,} images, {label}: chips drawn", cold, "s"),
            Measurement(f"the same, chips at hand, {label}", warm, "s"),
            Measurement(f"the same as a share of the matrix rate, {label}", operations / warm / rate, ""),
            Measurement(f"{CHIPS} plain forwards of the images, best batch, {label}", plain, "s"),
            Measurement(f"evaluation, chips at hand / plain forwards, {label}", warm / plain, "x"),
        ]
    return measurements


def best_plain(engine: Engine, x: Tensor, precision: Precision) -> float:
    """Return the time of as many plain forwards as an evaluation needs, at the best of some batch sizes."""
    model, images = engine.network.model, x.to("cuda", memory_format=engine.layout)

    def plain(batch: int) -> None:
        with torch.inference_mode(), arithmetic(precision, "cuda"):
            for block in images.split(batch):
                model(block)

    return CHIPS * min(median(lambda batch=batch: plain(batch)) for batch in BATCHES)  # type: ignore[misc]


def recording(name: str, images: int, shape: Shape, chips: int, placements: int) -> list[Measurement]:
    """Compare a walk that is recorded with one that is not, on a part of a task's placements."""
    task = load_task(name)
    _, _, engine = untrained(task, images, shape)
    every = list(PlacementSpace(task).all_placements())
    tree, numbers = every[-placements:], range(chips)
    what = f"{name}, {len(tree)} placements x {chips} chips x {images:,} images"
    once, again = (on_gpu(engine, recording=wanted) for wanted in (True, False))
    fast, slow = (median(lambda each=each: each.run(tree, numbers)) for each in (once, again))  # type: ignore[misc]
    leaf = fast / len(tree) / chips * 1e3
    return [
        Measurement(f"{what}: recorded", fast, "s"),
        Measurement("a placement on a chip", leaf, "ms"),
        Measurement("recorded / launched one by one", fast / slow, "x"),
    ]
