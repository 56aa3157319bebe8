"""How much of one non-ideality a trained network bears, all others switched off (Rasch et al., 2023, figure 5).

Every non-ideality is raised until the accuracy over chips falls to a share of the digital network's (A* = 99 %), and
all of them are compared at the strength that gives one standard matrix the same error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cimenv.compensation.bank import CompensationBank
from cimenv.core import checked_rows
from cimenv.core.checked_rows import appending
from cimenv.core.errors import ConfigError, known_name
from cimenv.core.inert import in_figure
from cimenv.core.progress import Progress, silent
from cimenv.core.seeding import torch_generator
from cimenv.core.writing import only_process, writing
from cimenv.crossbar.array import program_array
from cimenv.crossbar.chips import Chips
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.converters import step_size
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.intervals import mean_interval, normalised_accuracy
from cimenv.tasks.problem import Problem
from cimenv.tasks.task import Task

CALIBRATION_IMAGES = 1_000
STEPS = 8  # of the bisection of a strength, in its logarithm
TILE, SPREAD, VECTORS = 512, 0.246, 200  # the standard matrix of the acceptance test, and its inputs


@dataclass(frozen=True)
class NonIdeality:
    """One part of the crossbar that is raised.

    Attributes:
        what: for readers.
        low: a strength that does no harm.
        high: a strength that ruins any network.
        config: fields of the crossbar at a strength.
        reached: the strength that is really set, where not every one can be.
    """

    what: str
    low: float
    high: float
    config: Callable[[float], Mapping[str, Any]]
    reached: Callable[[float], float] = float


def _pcm(**scales: float) -> dict[str, Any]:
    none = {"programming_noise": 0.0, "drift": 0.0, "drift_variation": 0.0, "read_noise": 0.0}
    return {"device": {"kind": "pcm", **none, **scales}}


def _stuck(**shares: float) -> dict[str, Any]:
    return {"device": {"kind": "stuck", "device": {"kind": "ideal"}, **shares}}


def _bits(step: float) -> int:
    """Return the bits of a converter whose step is at most this share of its bound."""
    return max(2, min(16, math.ceil(math.log2(2.0 / step + 2))))


def _step(step: float) -> float:
    """Return the step of the converter that `_bits` chooses, as a share of its bound."""
    return step_size(_bits(step), 1.0)


NON_IDEALITIES: dict[str, NonIdeality] = {
    "programming_noise": NonIdeality("PCM programming noise, scale", 1e-2, 30, lambda s: _pcm(programming_noise=s)),
    "device_read_noise": NonIdeality("PCM 1/f noise, scale", 1e-2, 100, lambda s: _pcm(read_noise=s)),
    "weight_noise": NonIdeality(
        "Gaussian weight noise, share of the row's largest",
        1e-3,
        1,
        lambda s: {"device": {"kind": "gaussian", "sigma": s}},
    ),
    "stuck_at_zero": NonIdeality("share of devices stuck at zero", 1e-4, 0.9, lambda s: _stuck(at_zero=s)),
    "stuck_at_max": NonIdeality("share of devices stuck at the largest", 1e-5, 0.5, lambda s: _stuck(at_max=s)),
    "input_noise": NonIdeality("noise of inputs, share of the range", 1e-3, 2, lambda s: {"input_noise": s}),
    "output_noise": NonIdeality("noise of outputs, largest weight x input", 1e-3, 10, lambda s: {"output_noise": s}),
    "read_noise": NonIdeality("read noise of devices", 1e-3, 5, lambda s: {"read_noise": s}),
    "ir_drop": NonIdeality("IR drop, scale", 1e-1, 300, lambda s: {"ir_drop": s}),
    "s_shape": NonIdeality("S-shaped saturation nl", 1e-2, 100, lambda s: {"s_shape": s}),
    "voltage_offset": NonIdeality("voltage offset, share of the range", 1e-4, 1, lambda s: {"voltage_offset": s}),
    "dac_step": NonIdeality("step of inputs, share of the range", 1e-4, 1, lambda s: {"dac_bits": _bits(s)}, _step),
    "adc_step": NonIdeality("step of outputs, share of the bound", 1e-4, 1, lambda s: {"adc_bits": _bits(s)}, _step),
}


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        weights: digest of the network.
        kind: `threshold`: the largest strength with A* of at least `wanted`; `equal_error`: the largest strength with
            an error of the standard matrix of at most `wanted`.
        non_ideality: a name of `NON_IDEALITIES`.
        wanted: A* or error.
        strength: in the unit of the non-ideality; its largest where even that does no harm.
        mvm_error: relative error of the standard matrix.
        accuracy: mean over chips.
        low, high: 95 % interval of that mean.
        normalised: A* = 1 - (error - error of the digital network) / (chance - that).
        chips, images: what was evaluated.
    """

    task: str
    weights: str
    kind: str
    non_ideality: str
    wanted: float
    strength: float
    mvm_error: float
    accuracy: float
    low: float
    high: float
    normalised: float
    chips: int
    images: int


COLUMNS = tuple(field.name for field in fields(Row))


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names.

    Raises:
        UnknownNameError: one of them is no non-ideality.
    """
    for name in (checked := tuple(names)):
        known_name("non-ideality", name, NON_IDEALITIES)
    return checked


def crossbar(name: str, strength: float, base: CrossbarConfig) -> CrossbarConfig:
    """Return an analog crossbar with this non-ideality alone, and the array geometry of `base`."""
    plain = {"device": {"kind": "ideal"}, "analog": True, "dac_bits": 0, "adc_bits": 0}
    geometry = {"max_inputs": base.max_inputs, "adc_bound": base.adc_bound}
    return CrossbarConfig(**{**plain, **geometry, **NON_IDEALITIES[name].config(strength)})


@lru_cache(maxsize=1)
def _standard_matrix() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the matrix and inputs of the acceptance test: N(0, 0.246^2) clipped to 1; uniform, half of them 0."""
    draws = torch_generator("standard matrix")
    w = (SPREAD * torch.randn(TILE, TILE, generator=draws)).clamp_(-1, 1)
    x = (torch.rand(VECTORS, TILE, generator=draws) * 2 - 1) * (torch.rand(VECTORS, TILE, generator=draws) < 0.5)
    return w, x


def mvm_error(config: CrossbarConfig) -> float:
    """Return the mean relative error |y - W x| / |W x| of the standard 512 x 512 matrix on one array."""
    w, x = _standard_matrix()
    draws = torch_generator("standard matrix", "chip")
    whole = config.model_copy(update={"max_inputs": TILE})
    y, exact = program_array(w, whole, draws).mvm(x, 1.0, draws), x @ w.T
    return float(((y - exact).norm(dim=1) / exact.norm(dim=1)).mean())


def bare_task(task: Task, images: int) -> Task:
    """Return the task without blocks, its digital network with the batch norm it was trained with.

    Args:
        task: whose network is measured.
        images: test images of a chip.
    """
    exact = task.crossbar.model_copy(update={"batch_norm": "none"})
    return task.model_copy(update={"options": {}, "crossbar": exact, "report_images": images})


class Sensitivity:
    """Measures one trained network.

    Args:
        problem: of a `bare_task`; its network is what is mapped, whatever the task's crossbar.
        chips: test chips a point.
        threads: worker threads.

    Raises:
        ConfigError: the digital network is no better than chance.
    """

    def __init__(self, problem: Problem, chips: int = 10, threads: int = 1) -> None:
        self.problem, self.chips, self.threads = problem, chips, threads
        network = problem.network
        if not network.input_ranges:
            network = network.calibrated(problem.data.train.inputs(slice(CALIBRATION_IMAGES)))
        self.network: MappedNetwork = network
        self.images = problem.evaluated("test")
        self.clean = self._engine(network.config).clean_sum() / len(self.images[1])
        self.normalised(self.clean)  # before anything long: a network at chance has no A*

    def accuracy(self, config: CrossbarConfig) -> np.ndarray:
        """Return the accuracy of every chip."""
        empty = (0,) * len(self.network.sites)
        tally = self._engine(config).run([empty], range(self.chips))
        return tally.sums[0] / tally.images

    def normalised(self, accuracy: float) -> float:
        """Return A*."""
        return normalised_accuracy(accuracy, self.clean, self.problem.data.classes)

    def row(self, kind: str, name: str, wanted: float, strength: float) -> Row:
        """Return the measurement at a strength."""
        config = crossbar(name, strength, self.network.config)
        accuracies = self.accuracy(config)
        low, high = mean_interval(accuracies)
        mean = float(accuracies.mean())
        return Row(
            self.problem.task.name,
            self.problem.weights_digest[:12],
            kind,
            name,
            wanted,
            NON_IDEALITIES[name].reached(strength),
            mvm_error(config),
            mean,
            low,
            high,
            self.normalised(mean),
            self.chips,
            len(self.images[1]),
        )

    def threshold(self, name: str, share: float = 0.99) -> Row:
        """Return the largest strength at which A* is still `share`, by bisection of its logarithm."""

        def holds(strength: float) -> bool:
            accuracies = self.accuracy(crossbar(name, strength, self.network.config))
            return self.normalised(float(accuracies.mean())) >= share

        return self.row("threshold", name, share, _largest(NON_IDEALITIES[name], holds))

    def at_error(self, name: str, error: float) -> Row:
        """Return what the strength with this error of the standard matrix does to the network."""

        def below(strength: float) -> bool:
            return mvm_error(crossbar(name, strength, self.network.config)) <= error

        return self.row("equal_error", name, error, _largest(NON_IDEALITIES[name], below, steps=12))

    def _engine(self, config: CrossbarConfig) -> Engine:
        network = replace(self.network, config=config)
        bank = CompensationBank(self.problem.options).eval()
        chips = Chips(network, self.problem.task.chip_seed, "test")
        return Engine(self.problem.segments, chips, bank, *self.images, threads=self.threads)


def _largest(what: NonIdeality, holds: Callable[[float], bool], steps: int = STEPS) -> float:
    """Return the largest strength that holds, by bisection of its logarithm; the least one where none does."""
    low, high = math.log(what.low), math.log(what.high)
    if holds(what.high):
        return what.high
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(math.exp(middle)):
            low = middle
        else:
            high = middle
    return math.exp(low)


def run(
    sensitivity: Sensitivity | Callable[[], Sensitivity],
    path: Path,
    names: tuple[str, ...] = tuple(NON_IDEALITIES),
    *,
    error: float = 0.1,
    share: float = 0.99,
    progress: Progress = silent,
) -> list[Row]:
    """Measure what `path` does not hold yet, and return all rows; a row is written as soon as it is known.

    Args:
        sensitivity: of the network, or what makes it, called when the file is known to be this process's own.
        path: the CSV file; a lock beside it keeps a second process away.
        names: non-idealities.
        error: of the standard matrix, to compare at.
        share: A* to be kept.
        progress: opens a bar.

    Raises:
        ConfigError: the file is not one of this analysis, was made with other chips or images, cannot be written, or
            another process measures into it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    taken = f"Another process measures into {path}; wait until it has finished, or give another folder."
    with only_process(path.with_name(f".{path.name}.lock"), taken):
        known = read_rows(path) if path.exists() else []
        return _filled(sensitivity, path, known, names, {"threshold": share, "equal_error": error}, progress)


def _filled(
    sensitivity: Sensitivity | Callable[[], Sensitivity],
    path: Path,
    known: list[Row],
    names: tuple[str, ...],
    asked: Mapping[str, float],
    progress: Progress,
) -> list[Row]:
    sensitivity = sensitivity if isinstance(sensitivity, Sensitivity) else sensitivity()
    for row in known:
        if (row.chips, row.images) != (sensitivity.chips, len(sensitivity.images[1])):
            raise ConfigError(f"{path} holds rows of {row.chips} chips x {row.images} images; give another file.")
    weights = sensitivity.problem.weights_digest[:12]
    done = {(row.kind, row.non_ideality, row.wanted) for row in known if row.weights == weights}
    wanted = [(k, name) for name in names for k in asked if (k, name, asked[k]) not in done]
    append = appending(path, COLUMNS)
    with progress("measuring non-idealities", len(wanted)) as advance:
        for kind, name in wanted:
            measure = sensitivity.threshold if kind == "threshold" else sensitivity.at_error
            row = measure(name, asked[kind])
            append(list(asdict(row).values()))
            known.append(row)
            advance()
    return known


def read_rows(path: Path) -> list[Row]:
    """Read what `run` wrote; a last line that a killed process left unfinished is no row.

    Raises:
        ConfigError: it is not one of these files, or a row is not as it was written.
    """
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Row)}
    try:
        lines = checked_rows.read_rows(path, COLUMNS)
        return [Row(**{name: kind(line[name]) for name, kind in kinds.items()}) for line in lines]
    except ConfigError:
        raise
    except (OSError, ValueError):
        raise ConfigError(f"{path} is no table of sensitivities; give another file or delete it.") from None


def figure(rows: list[Row]) -> Any:
    """Return a matplotlib figure: error of the standard matrix at the threshold, and A* at equal error, by task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row.task for row in rows))
    names = [name for name in NON_IDEALITIES if any(row.non_ideality == name for row in rows)]
    drawn = Figure(figsize=(9, 0.34 * len(names) + 1.6), layout="constrained")
    axes = drawn.subplots(1, 2, sharey=True)
    for number, task in enumerate(tasks):
        offset = 0.5 * ((number + 0.5) / len(tasks) - 0.5)
        for ax, kind, value in ((axes[0], "threshold", "mvm_error"), (axes[1], "equal_error", "normalised")):
            measured = [row for row in rows if (row.task, row.kind) == (task, kind)]
            at = [names.index(row.non_ideality) + offset for row in measured]
            marker = "osD^v"[number % 5]
            ax.plot(
                [getattr(row, value) for row in measured], at, marker, color=f"C{number}", ms=5, label=in_figure(task)
            )
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].set(xlabel="MVM error borne until A* falls below the share", xscale="log")
    axes[1].set(xlabel="A* at equal MVM error")
    axes[1].axvline(0.99, color="#888888", lw=0.8, ls="--")
    for ax in axes:
        ax.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    return drawn
