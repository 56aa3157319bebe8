"""Fitting of compensation blocks: the one-shot bank, and the blocks of one placement.

The backbone is frozen, every batch sees a fresh chip, the loss is the cross-entropy of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from pydantic import Field
from torch.nn import functional as F

from cimenv.compensation.bank import CompensationBank, site_weights
from cimenv.compensation.fit_log import FitLog
from cimenv.compensation.options import Placement
from cimenv.core.config import Frozen
from cimenv.core.precision import arithmetic
from cimenv.core.progress import Progress
from cimenv.crossbar.batchnorm import batch_statistics
from cimenv.crossbar.mapping import MappedNetwork
from cimenv.crossbar.modes import evaluating, learning
from cimenv.data.splits import ImageSet
from cimenv.evaluation.labels import count_correct
from cimenv.training.resuming import Batches, FitState, Kept, Met

Sampler = Callable[[], Placement]


class BankRecipe(Frozen):
    """How the bank is trained: every batch draws a random placement and a fresh chip."""

    version: int = Field(1, ge=1, le=1_000)
    steps: int = Field(4000, ge=0, le=10_000_000)
    batch_size: int = Field(128, ge=2, le=65_536)
    learning_rate: float = Field(3e-3, gt=0)
    fill: float = Field(0.7, gt=0, le=1, description="probability that a site gets a block")


class TunedRecipe(Frozen):
    """How the blocks of one placement are fitted, starting from the bank."""

    version: int = Field(1, ge=1, le=1_000)
    steps: int = Field(600, ge=0, le=10_000_000)
    batch_size: int = Field(128, ge=2, le=65_536)
    learning_rate: float = Field(2e-3, gt=0)


def fit_bank(
    network: MappedNetwork,
    bank: CompensationBank,
    train: ImageSet,
    recipe: BankRecipe,
    generator: torch.Generator,
    progress: Progress,
    times_s: Sequence[float] = (0.0,),
    kept: Kept | None = None,
) -> FitLog:
    """Train every block of `bank` at once, in place; return what every batch met. The network is left as it was.

    Where it is `kept` on its way, one that was killed goes on to the same weights and the same log.

    Args:
        network: the frozen, mapped backbone.
        bank: blocks at initialisation.
        train: training images.
        recipe: steps, batch size, rate.
        generator: draws placements, chips and batches.
        progress: opens a bar.
        times_s: seconds after programming; every batch meets its chip at one of them.
    """
    choices = [len(options) for options in bank.options.per_site]

    def sample() -> Placement:
        while True:
            filled = torch.rand(len(choices), generator=generator) < recipe.fill
            picked = [int(torch.randint(1, n + 1, (1,), generator=generator)) if n else 0 for n in choices]
            placement = tuple(o if use else 0 for o, use in zip(picked, filled.tolist(), strict=True))
            if bank.used_parameters(placement):
                return placement

    parameters, what = list(bank.parameters()), "training the bank"
    return _fit(network, bank, parameters, train, recipe, sample, generator, progress, what, times_s, kept)


def fit_placement(
    network: MappedNetwork,
    bank: CompensationBank,
    placement: Placement,
    train: ImageSet,
    recipe: TunedRecipe,
    generator: torch.Generator,
    progress: Progress,
    times_s: Sequence[float] = (0.0,),
    kept: Kept | None = None,
) -> None:
    """Fit the blocks of one placement further, in place, from the weights that `bank` holds.

    Where it is `kept` on its way, one that was killed goes on to the same weights.
    """
    parameters, what = bank.used_parameters(placement), "tuning the blocks"
    _fit(network, bank, parameters, train, recipe, lambda: placement, generator, progress, what, times_s, kept)


def _fit(
    network: MappedNetwork,
    bank: CompensationBank,
    parameters: list[torch.nn.Parameter],
    train: ImageSet,
    recipe: BankRecipe | TunedRecipe,
    sample: Sampler,
    generator: torch.Generator,
    progress: Progress,
    what: str,
    times_s: Sequence[float],
    kept: Kept | None = None,
) -> FitLog:
    """Return the placement of every batch and how many of its images were correct."""
    images = min(recipe.batch_size, len(train))
    met = Met.of(recipe.steps, len(bank.options.per_site), next(iter(parameters), torch.empty(0)).device)
    if not parameters or recipe.steps == 0:
        return met.log(0, images)
    model, nominal = network.model, network.weights()
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    batches = Batches(train, recipe.batch_size, generator, network.layout)
    state = FitState(parameters, optimizer, schedule, generator, batches, met)
    done = kept.load(state) if kept else 0
    per_chip = network.config.batch_norm == "per_chip"
    with (
        evaluating(model),
        learning(model, False),
        learning(bank),
        batch_statistics(model) if per_chip else nullcontext(),
        progress(what, recipe.steps, done) as advance,
    ):
        for step in range(done, recipe.steps):
            placement = sample()
            which = int(torch.randint(len(times_s), (1,), generator=generator)) if len(times_s) > 1 else 0
            drawn = network.program(generator, t_s=times_s[which])
            chip = site_weights(bank, placement, nominal, drawn)
            x, y = next(batches)
            with network.programmed(chip, bank.at_sites(placement)):
                logits = model(x)
                loss = F.cross_entropy(logits, y)
            optimizer.zero_grad(set_to_none=True)
            with arithmetic("float32", loss.device.type):
                loss.backward()
            optimizer.step()
            schedule.step()
            met.add(step, placement, count_correct(logits.detach(), y))
            advance()
            if kept and kept.due:
                kept.save(step + 1, state)
    return met.log(recipe.steps, images)
