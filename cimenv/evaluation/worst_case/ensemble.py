"""The reported worst case: the minimum over an ensemble of attacks, never one attack alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError
from cimenv.core.global_state import own_torch_state
from cimenv.core.progress import Progress, silent
from cimenv.evaluation.worst_case.lagrangian import Lagrangian
from cimenv.evaluation.worst_case.losses import LossName
from cimenv.evaluation.worst_case.pgd import Pgd, published_margin
from cimenv.evaluation.worst_case.search import Point, Search
from cimenv.evaluation.worst_case.target import AttackTarget, Deviation

LAST_ROUNDS = 2
RESTART_STEP = 0.25  # of the bound: restarts and refinements move less than the first descent


class WorstCaseSearch(Frozen):
    """An ensemble of attacks and its budget. The defaults are for reports; `quick()` is for searches.

    Members: the published margin attack; for every loss a descent with momentum and decaying steps from no deviation
    and from random chips; random chips and corners; the Lagrangian; descents of the smoothed count of correct images
    from deviations found on other networks; last, such descents from the worst deviation of every loss, and of all.
    """

    bound: float = Field(0.03, gt=0, le=1, description="th_g: largest |dW| in units of the layer's max|W|")
    losses: tuple[LossName, ...] = Field(("count", "ce", "margin", "dlr"), min_length=1)
    steps: int = Field(25, ge=1, le=100_000, description="gradient steps of a descent")
    restarts: int = Field(2, ge=0, le=10_000, description="descents from random chips, with the losses in turn")
    random_chips: int = Field(40, ge=0, le=100_000, description="random chips and corners, half each")
    published_steps: int = Field(
        20, ge=0, le=100_000, description="steps of the published margin attack; 0 leaves it out"
    )
    lagrangian_rounds: int = Field(
        5, ge=0, le=10_000, description="values of the multiplier; 0 leaves the Lagrangian out"
    )
    refine: bool = Field(True, description="descend again from the worst deviation of every loss, and of all members")
    images: int | None = Field(None, ge=1, le=1_000_000, description="the first images only; None: all that are given")

    def quick(self) -> WorstCaseSearch:
        """Return the search-fidelity attack of the same bound: ten steps of cross-entropy and margin, 500 images."""
        return WorstCaseSearch(
            bound=self.bound,
            losses=("ce", "margin"),
            steps=10,
            restarts=0,
            random_chips=0,
            published_steps=0,
            lagrangian_rounds=0,
            refine=False,
            images=500,
        )


@dataclass(frozen=True)
class WorstCase:
    """The result of a search.

    Attributes:
        target: what was attacked, on the images that were.
        correct: images that stay correct under the worst deviation found.
        member: the attack that found it.
        deviation: the relative deviation d = dW / S by site, within the bound.
        members: the smallest accuracy that every member found.
        curve: attack strength against budget.
    """

    target: AttackTarget
    correct: int
    member: str
    deviation: Deviation
    members: Mapping[str, float]
    curve: tuple[Point, ...]

    @property
    def images(self) -> int:
        """Return the number of images attacked."""
        return len(self.target.labels)

    @property
    def accuracy(self) -> float:
        """Return the worst accuracy found: an upper bound of the true worst case."""
        return self.correct / self.images


@own_torch_state()
def worst_case(
    target: AttackTarget,
    config: WorstCaseSearch,
    generator: torch.Generator,
    *,
    transferred: Sequence[Mapping[str, Tensor]] = (),
    progress: Progress = silent,
) -> WorstCase:
    """Search for the deviation |d| <= th_g that leaves the fewest images correct.

    Args:
        target: network, blocks and images.
        config: members and budget.
        generator: draws random chips and starts.
        transferred: relative deviations found on other networks with the same sites.
        progress: opens a bar.

    Raises:
        ConfigError: a transferred deviation has other sites or shapes.
        MappingError: a mapped layer is all zeros.
    """
    if config.images is not None:
        target = target.first(config.images)
    for deviation in transferred:
        _check_transferred(target, deviation)
    with progress("searching the worst case", _passes(config, len(transferred))) as advance:
        search = Search(target, config.bound, generator, advance)
        _run(search, config, transferred)
    correct = round(search.accuracy * len(target.labels))
    return WorstCase(target, correct, search.member, search.deviation, dict(search.members), tuple(search.curve))


def _run(search: Search, config: WorstCaseSearch, transferred: Sequence[Mapping[str, Tensor]]) -> None:
    target, zero = search.target, search.target.zero()
    for loss in config.losses:
        Pgd(loss, config.steps).run(search, f"pgd_{loss}", 0, zero)
    if config.published_steps:
        published_margin(config.published_steps).run(search, "pgd_published", 0, zero)
    for k in range(config.random_chips):
        chip = search.random() if k % 2 else search.corner()
        search.visit("random_chips", k, 0, chip, target.correct(chip))
    if config.lagrangian_rounds:
        Lagrangian(config.lagrangian_rounds).run(search, "lagrangian")
    for k in range(config.restarts):
        loss = config.losses[k % len(config.losses)]
        Pgd(loss, config.steps, RESTART_STEP).run(search, f"pgd_{loss}", k + 1, search.random())
    for k, deviation in enumerate(transferred):
        Pgd("count", config.steps, RESTART_STEP).run(search, "transfer", k, search.clamped(deviation))
    if config.refine:
        _refine(search, config)


def _refine(search: Search, config: WorstCaseSearch) -> None:
    """Descend the smoothed count from the worst deviation of every loss, then twice from the worst of all."""
    starts = [search.worst_of[f"pgd_{loss}"] for loss in config.losses]
    for k in range(len(starts) + LAST_ROUNDS):
        deviation = starts[k] if k < len(starts) else search.deviation
        Pgd("count", config.steps, RESTART_STEP).run(search, "refined", k, deviation)


def _passes(config: WorstCaseSearch, transferred: int) -> int:
    refined = len(config.losses) + LAST_ROUNDS if config.refine else 0
    descents = len(config.losses) + config.restarts + transferred + refined
    published = config.published_steps + 1 if config.published_steps else 0
    lagrangian = config.lagrangian_rounds * (Lagrangian.passes + 1)
    return descents * (config.steps + 1) + published + config.random_chips + lagrangian


def _check_transferred(target: AttackTarget, deviation: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in target.nominal.items()}
    given = {name: tuple(value.shape) for name, value in deviation.items()}
    if shapes != given:
        raise ConfigError(
            f"transferred: got sites {given}, the network has {shapes}; give deviations of a network with these."
        )
    for name, value in deviation.items():
        if not bool(value.isfinite().all()):
            raise ConfigError(f"transferred: the deviation of {name} holds NaN or infinity; give finite numbers.")
