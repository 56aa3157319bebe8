"""What a Monte-Carlo evaluation of a deep network costs beside plain forward passes; time needs no training."""

from __future__ import annotations

from itertools import cycle

import torch

from cimenv.core.threads import torch_threads
from cimenv.evaluation.prefix import PrefixCache
from cimenv.tasks import load_task
from cimenv.tasks.engines import KEPT_WIDE_ACTIVATIONS
from experiments.lab.measurements import Measurement
from experiments.lab.timing import median_ratio, seconds, untrained

CHIPS, IMAGES, RUNS = 25, 500, 3
BATCHES = (16, 32, 64, 125, 250, 500)
CHANGED = 5  # the site at which a step of a search changes the placement
MARGIN = 1.1


def measure_deep_networks() -> list[Measurement]:
    """Compare evaluation and a search step on quarter-width VGG-16 with plain forwards, on one thread."""
    network, images, engine = untrained(load_task("vgg16-two-digit"), IMAGES, (1, 32, 32))
    model = network.model

    def plain(part: torch.nn.Module, batch: int, times: int = CHIPS) -> None:
        with torch.inference_mode():
            for _ in range(times):
                for block in images.split(batch):
                    part(block)

    none, chips = (0,) * len(network.sites), range(CHIPS)
    changed = [(*none[:CHANGED], option, *none[CHANGED + 1 :]) for option in (1, 2)]
    steps = cycle(changed)  # the same placement twice would be known
    keeping, fresh, coarse = engine(cache=PrefixCache(KEPT_WIDE_ACTIVATIONS)), engine(), engine(precision="bfloat16")
    with torch_threads(1):
        best = min(BATCHES, key=lambda batch: min(seconds(lambda: plain(model, batch, 4)) for _ in range(2)))
        whole, _, took = median_ratio(lambda: fresh.run([none], chips), lambda: plain(model, best), RUNS)
        half, _, _ = median_ratio(lambda: coarse.run([none], chips), lambda: fresh.run([none], chips), RUNS)
        keeping.run([none], chips)
        step, _, _ = median_ratio(
            lambda: keeping.run([next(steps)], chips), lambda: fresh.run(changed[:1], chips), RUNS
        )
        before = model.features[: _position(model, network.sites[CHANGED].name)]  # type: ignore[index]
        share, _, _ = median_ratio(lambda: plain(before, best), lambda: plain(model, best), RUNS)  # type: ignore[arg-type]
    return [
        Measurement(f"VGG-16, width 1/4: plain forwards, {CHIPS} x {IMAGES} images, best batch ({best})", took, "s"),
        Measurement("VGG-16: evaluation / plain forwards", whole, "x", MARGIN),
        Measurement("VGG-16: evaluation in bfloat16 / in float32", half, "x"),
        Measurement(f"VGG-16: step at site {CHANGED + 1} / full evaluation", step, "x", MARGIN * (1 - share)),
    ]


def _position(model: torch.nn.Module, site: str) -> int:
    """Return how many modules of the features stand before a site."""
    names = [name for name, _ in model.features.named_children()]  # type: ignore[union-attr]
    return names.index(site.removeprefix("features."))
