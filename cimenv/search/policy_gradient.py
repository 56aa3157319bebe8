"""Searches by policy gradient: the LSTM controller of the literature, and a policy of one step."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cimenv.compensation.options import Placement
from cimenv.evaluation.record import Evaluation
from cimenv.search.base import Count, NotNegative, Search
from cimenv.tasks.objective import Objective

PATIENCE = 100  # updates in a row without a placement that is new and feasible, after which a search is over
MEMORY = 0.8  # of the baseline, from update to update


class LstmController(nn.Module):
    """Chooses site after site; every choice sees those before it (Zoph and Le, ICLR 2017).

    Args:
        sites: their number.
        choices: options of a site, none among them.
        width: of the LSTM.
    """

    def __init__(self, sites: int, choices: int, width: int) -> None:
        super().__init__()
        self.chosen, self.site = nn.Embedding(choices + 1, width), nn.Embedding(sites, width)
        self.lstm, self.head = nn.LSTM(width, width, batch_first=True), nn.Linear(width, choices)

    def forward(self, placements: Tensor) -> Tensor:
        """Return the logits of every choice, `[n, sites, choices]`, given those before it in `placements`."""
        before = torch.cat([torch.zeros_like(placements[:, :1]), placements[:, :-1] + 1], 1)
        hidden, _ = self.lstm(self.chosen(before) + self.site.weight)
        return self.head(hidden)


class OneStep(nn.Module):
    """Policy gradient that chooses all sites at once and independently.

    Args:
        sites: their number.
        choices: options of a site, none among them.
    """

    def __init__(self, sites: int, choices: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(sites, choices))

    def forward(self, placements: Tensor) -> Tensor:
        """Return the logits of every choice, `[n, sites, choices]`."""
        return self.logits.expand(len(placements), -1, -1)


class PolicyGradient(Search):
    """REINFORCE with a moving baseline and an entropy bonus; Adam.

    A placement over the budget is not evaluated and is paid `-penalty`, as the literature does.

    Args:
        objective: of the task.
        generator: draws weights and placements.
        batch: placements of an update.
        learning_rate: of the policy; default `rate`.
        entropy: weight of the entropy of a choice.
        penalty: for a placement over the budget, in units of J.
        width: of the LSTM.
    """

    draws = endless = True
    rate: ClassVar[float]

    def __init__(
        self,
        objective: Objective,
        generator: np.random.Generator,
        *,
        batch: Count = 4,
        learning_rate: NotNegative | None = None,
        entropy: NotNegative = 0.02,
        penalty: NotNegative = 1.0,
        width: Count = 32,
    ) -> None:
        super().__init__(objective, generator)
        self.batch, self.entropy, self.penalty = batch, entropy, penalty
        self.allowed = torch.from_numpy(self.space.candidates)
        seed = int(generator.integers(2**62))
        self.torch_draws = torch.Generator().manual_seed(seed)
        sites, choices = self.allowed.shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = self.made(sites, choices, width)
        rate = self.rate if learning_rate is None else learning_rate
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=rate)
        self.baseline: float | None = None
        self.sampled: list[Placement] = []
        self.values: dict[Placement, float] = {}

    def made(self, sites: int, choices: int, width: int) -> nn.Module:
        """Return a policy: it takes placements `[n, sites]` and gives the logits of every choice."""
        raise NotImplementedError

    def propose(self) -> list[Placement]:
        """Learn from the last placements and draw until one is new; those that are known cost nothing."""
        for _ in range(PATIENCE):
            self._learn()
            self.sampled = self._drawn()
            if new := [placement for placement in self.sampled if placement not in self.values]:
                over = [placement for placement in new if not self.space.feasible(placement)]
                self.values |= dict.fromkeys(over, -self.penalty)
                if feasible := [placement for placement in new if placement not in over]:
                    return feasible
        return []

    def observe(self, evaluation: Evaluation, value: float) -> None:
        """Take note of a value."""
        self.values[evaluation.placement] = value

    def _logits(self, placements: Tensor) -> Tensor:
        return self.policy(placements).masked_fill(~self.allowed, -torch.inf)

    def _drawn(self) -> list[Placement]:
        drawn = torch.zeros(self.batch, len(self.allowed), dtype=torch.long)
        with torch.no_grad():
            for site in range(len(self.allowed)):
                chances = self._logits(drawn)[:, site].softmax(-1)
                drawn[:, site] = torch.multinomial(chances, 1, generator=self.torch_draws)[:, 0]
        return [tuple(placement) for placement in drawn.tolist()]

    def _learn(self) -> None:
        paid = [placement for placement in self.sampled if placement in self.values]
        if not paid:
            return
        rewards = torch.tensor([self.values[placement] for placement in paid])
        self.baseline = float(rewards.mean()) if self.baseline is None else self.baseline
        placements = torch.tensor(paid)
        chances = self._logits(placements).log_softmax(-1)
        chosen = chances.gather(-1, placements[..., None])[..., 0].sum(-1)
        spread = -(chances.exp() * chances.nan_to_num(neginf=0.0)).sum(-1).mean()
        loss = -((rewards - self.baseline) * chosen).mean() - self.entropy * spread
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.baseline = MEMORY * self.baseline + (1 - MEMORY) * float(rewards.mean())


class LstmSearch(PolicyGradient):
    """Policy gradient on an LSTM that chooses site after site.

    Source: Zoph and Le (ICLR 2017).
    """

    name, rate = "lstm_controller", 0.03

    def made(self, sites: int, choices: int, width: int) -> nn.Module:
        """Return the LSTM."""
        return LstmController(sites, choices, width)


class OneStepSearch(PolicyGradient):
    """Policy gradient on a policy that chooses all sites at once."""

    name, rate = "one_step", 0.1

    def made(self, sites: int, choices: int, width: int) -> nn.Module:
        """Return one table of logits."""
        del width
        return OneStep(sites, choices)
