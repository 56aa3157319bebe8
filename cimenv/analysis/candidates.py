"""Where errors must be caught: the sites from which on a network bears the variation without help.

Source: CorrectNet (DATE 2023). Layers i ... last vary, for falling i, until the accuracy is no longer a given share of
the clean one; sites 1 ... i are then candidates for blocks, since errors of later layers alone are borne.
"""

from __future__ import annotations

from dataclasses import dataclass

from cimenv.core.errors import ConfigError
from cimenv.core.progress import Progress, silent
from cimenv.core.store import Store
from cimenv.crossbar.sites import SITE_TYPES
from cimenv.tasks import MonteCarloEvaluator, Task

SHARE = 0.95
DIGITAL = [{"kind": "digital"}]


@dataclass(frozen=True)
class VariedFrom:
    """A network whose layers vary from one site on.

    Attributes:
        site: the first that varies.
        accuracy: mean over the task's validation chips.
        interval: of the mean, 95 %.
        share: of the clean accuracy.
    """

    site: str
    accuracy: float
    interval: tuple[float, float]
    share: float


def varied_from(
    task: Task, threshold: float = SHARE, store: Store | None = None, progress: Progress = silent
) -> list[VariedFrom]:
    """Let layers vary from the last one on, one more at a time, until accuracy falls below a share of the clean one.

    Args:
        task: its options play no part; its network is trained if it is not yet.
        threshold: the share.
        store: default the one in CIMENV_CACHE.
        progress: opens a bar.

    Returns:
        One entry for every first site that was tried, the last site first.

    Raises:
        ConfigError: `threshold` is not in 0 ... 1, or the clean accuracy is 0.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold: got {threshold}; give a share of the clean accuracy, above 0 and up to 1.")
    bare = task.model_copy(update={"statistic": "mean", "budget": {}, "candidates": None, "options": {}})
    exact = bare.with_changes(options=dict.fromkeys(SITE_TYPES, DIGITAL))
    evaluator = MonteCarloEvaluator(exact, store, progress=progress)
    clean = evaluator.clean_accuracy()
    if clean == 0:
        raise ConfigError(
            f"task '{task.name}': its network classifies none of {evaluator.problem.images('val')} validation images "
            "without variation, so that no share of that can be lost; train it first."
        )
    sites = evaluator.space.sites
    measured: list[VariedFrom] = []
    for first in reversed(range(len(sites))):
        evaluation = evaluator.evaluate((1,) * first + (0,) * (len(sites) - first))
        mean = evaluation.value("mean")
        low, high = evaluation.interval("mean") or (mean, mean)
        measured.append(VariedFrom(sites[first].name, mean, (low, high), mean / clean))
        if mean < threshold * clean:
            break
    return measured


def candidate_sites(
    task: Task, threshold: float = SHARE, store: Store | None = None, progress: Progress = silent
) -> tuple[str, ...]:
    """Return the names of the candidate sites, for `Task.candidates`; see `varied_from`.

    Empty where the network bears the variation of all its layers.
    """
    return named_candidates(task, varied_from(task, threshold, store, progress), threshold)


def named_candidates(task: Task, measured: list[VariedFrom], threshold: float) -> tuple[str, ...]:
    """Return the candidates that follow from what was measured."""
    if measured[-1].share >= threshold:
        return ()
    names = [site.name for site in task.sites()]
    return tuple(names[: names.index(measured[-1].site) + 1])
