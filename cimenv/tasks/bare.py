"""cimenv.evaluate: what a crossbar leaves of a trained network, without blocks and without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cimenv.core.errors import ConfigError
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, bar
from cimenv.core.store import Store
from cimenv.crossbar.saturation import Saturation
from cimenv.data import DataSplits
from cimenv.data.splits import Split
from cimenv.evaluation.record import ERROR_COLUMNS, Evaluation
from cimenv.tasks.evaluators.monte_carlo import MonteCarloEvaluator
from cimenv.tasks.own import AnyCrossbar, own_task
from cimenv.tasks.problem import default_store
from cimenv.tasks.requests import chip_numbers
from cimenv.tasks.task import Task

CHIPS = 25
OF_BLOCKS = (
    "options",
    "candidates",
    "budget",
    "cost_weight",
    "cost_weights",
    "bank",
    "tuned",
    "protection",
    "statistic",
)
HEADINGS = ("site", "type", "weights", "error", "spread", "largest", "SNR dB", "cosine")
CUT_OFF = ("clipped in", "saturated out")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NetworkEvaluation:
    """What a crossbar leaves of a network; prints itself.

    Attributes:
        name: of the network.
        evaluation: the record: correct images `[times, chips]` and where they come from.
        clean_accuracy: on the same images, without variation.
        times_s: seconds after programming.
        percentile: which quantile over chips `low` is.
        sites: site name -> its type and number of weights.
        saturation: site name -> what its converters cut off on the first chip at the last time; analog sites alone.
    """

    name: str
    evaluation: Evaluation
    clean_accuracy: float
    times_s: tuple[float, ...]
    percentile: float
    sites: Mapping[str, tuple[str, int]]
    saturation: Mapping[str, Saturation]

    @property
    def accuracy(self) -> Floats:
        """Return the accuracy of every chip, `[chips]`: averaged over times, or at the worst of them."""
        return self.evaluation.accuracy

    @property
    def accuracy_at(self) -> dict[float, Floats]:
        """Return the accuracy of every chip, `[chips]`, by the seconds after programming."""
        return dict(zip(self.times_s, self.evaluation.values, strict=True))

    @property
    def mean(self) -> float:
        """Return the mean accuracy over chips."""
        return self.evaluation.value("mean")

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean over chips."""
        ends = self.evaluation.interval("mean")
        assert ends is not None
        return ends

    @property
    def low(self) -> float:
        """Return the accuracy that the share `percentile` of the chips misses."""
        return self.evaluation.value("percentile", self.percentile)

    @property
    def low_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of `low`, or None where the chips are too few."""
        return self.evaluation.interval("percentile", self.percentile)

    @property
    def site_errors(self) -> dict[str, dict[str, float]]:
        """Return the feature errors of every site: mean, spread and maximum over chips, SNR in dB, cosine."""
        rows = (dict(zip(ERROR_COLUMNS, row, strict=True)) for row in self.evaluation.site_errors.tolist())
        return dict(zip(self.sites, rows, strict=True))

    def __str__(self) -> str:
        evaluation, interval, low = self.evaluation, self.interval, self.low_interval
        times = f", {self._times()}" if self.times_s != (0.0,) else ""
        lines = [
            f"{self.name}: {evaluation.chips} chips x {evaluation.images} {evaluation.split} images{times}",
            f"accuracy {self.mean:.4f} (95 % interval {interval[0]:.4f} to {interval[1]:.4f}), "
            f"spread {evaluation.value('std'):.4f}, clean {self.clean_accuracy:.4f}",
            f"{self.percentile:.3g}-quantile over chips {self.low:.4f} "
            + (f"(95 % interval {low[0]:.4f} to {low[1]:.4f})" if low else "(too few chips for an interval)"),
        ]
        if len(self.times_s) > 1:
            lines += [f"  after {t_s:g} s: {chips.mean():.4f}" for t_s, chips in self.accuracy_at.items()]
        return "\n".join([*lines, "", *_aligned(self._rows())])

    def _times(self) -> str:
        return f"{' and '.join(f'{t_s:g}' for t_s in self.times_s)} s after programming"

    def _rows(self) -> list[list[str]]:
        rows = [[*HEADINGS, *(CUT_OFF if self.saturation else ())]]
        for name, (kind, weights) in self.sites.items():
            error = self.site_errors[name]
            shown = [f"{error[column]:.{2 if column == 'snr_db' else 4}f}" for column in ERROR_COLUMNS]
            rows.append([name, kind, f"{weights:,}", *shown])
            if self.saturation:
                cut = self.saturation.get(name)
                rows[-1] += [f"{cut.clipped_inputs:.2%}", f"{cut.saturated_outputs:.2%}"] if cut else ["", ""]
        return rows


@own_torch_state()
def evaluate(
    model: nn.Module,
    data: DataSplits | str,
    crossbar: AnyCrossbar = None,
    *,
    chips: int | range = CHIPS,
    times_s: tuple[float, ...] = (0.0,),
    images: int | None = None,
    split: Split = "test",
    store: Store | str | Path | None = None,
    device: str = "cpu",
    progress: Progress = bar,
    **task_fields: Any,
) -> NetworkEvaluation:
    """Evaluate a trained network on a crossbar, over Monte-Carlo chips: no block, no search, nothing is trained.

    Args:
        model: a trained classifier; it is not changed.
        data: the splits, or the name of a data set.
        crossbar: device model and array, the device alone, a preset's name, or what a task's YAML says; default
            log-normal, sigma 0.5.
        chips: how many, or the range of their numbers.
        times_s: seconds after programming.
        images: of each chip; default all of the split, at most 10,000 of `test` and 1,000 of `val`.
        split: `test`, or `val` for images and chips to select by.
        store: where evaluations are kept, or its folder.
        device: where to compute, `cpu` or `cuda`.
        progress: opens bars.
        task_fields: any other field of `Task` that is not about blocks, such as `chip_seed` or `over_times`.

    Raises:
        MappingError: the model has no layer with a matrix.
        DataError: the data do not fit the model.
        ConfigError: another argument is unknown or holds what is not allowed.
    """
    if idle := [name for name in task_fields if name in OF_BLOCKS]:
        raise ConfigError(f"{idle[0]}: evaluate runs the network without blocks; leave it out, or call cimenv.place.")
    counts = {} if images is None else {"images": images, "report_images": images}
    fields = {**task_fields, **counts, "options": {}, "times_s": times_s}
    task, objects = own_task("evaluate", model, data, crossbar, fields)
    kept = store if isinstance(store, Store) else default_store(store)
    evaluator = MonteCarloEvaluator(task, kept, device=device, progress=progress, objects=objects)
    return evaluated(evaluator, split, chips)


def without_blocks(task: Task) -> Task:
    """Return a task whose problem needs no bank, and no network but its own where the recipe allows it."""
    changes: dict[str, Any] = {"options": {}, "statistic": "mean", "candidates": None, "budget": {}}
    if not task.recipe.fine_tunes:
        changes["reference"] = task.recipe
    return task.model_copy(update=changes)


def evaluated(evaluator: MonteCarloEvaluator, split: Split, chips: int | range | None = None) -> NetworkEvaluation:
    """Return what the crossbar leaves of an evaluator's network, without blocks."""
    chip_numbers(evaluator.task, split, "bank", chips)  # before anything is trained
    problem, task = evaluator.problem, evaluator.task
    evaluation = evaluator.evaluate(evaluator.space.empty(), split, chips=chips)
    return NetworkEvaluation(
        name=task.name,
        evaluation=evaluation,
        clean_accuracy=evaluator.clean_accuracy(split),
        times_s=task.times_s,
        percentile=task.percentile,
        sites={site.name: (site.type, site.weights) for site in evaluator.space.sites},
        saturation=problem.saturation(split) if problem.network.input_ranges else {},  # else no layer is analog
    )


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return rows as lines: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_cell(*part) for part in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def _cell(column: int, part: tuple[str, int]) -> str:
    text, width = part
    return text.ljust(width) if column < 2 else text.rjust(width)
