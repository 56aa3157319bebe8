"""A policy over sites, trained on tables at several budgets and prices, that sees only the unprotected network."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO

from agents.transfer.plan import Plan
from cimenv.compensation.options import Placement
from cimenv.core.config import canonical
from cimenv.envs import CompensationTabularEnv, TabularVectorEnv
from cimenv.sb3 import MixedVecEnv, SitePolicy, TabularVecEnv, deterministic_rollout, placement_of

SMALLEST_SPREAD = 0.01  # of J
PATIENCE = 8  # episodes in a row without a new placement after which the temperature rises
HOTTEST = 1e4


def tabular(plan: Plan, table: str, variant: Mapping[str, Any]) -> TabularVectorEnv:
    """Return the environments of a table at one budget and price; a process makes them once."""
    return _tabular(plan.copies, table, canonical(variant), plan.max_sites)


@cache
def _tabular(copies: int, table: str, variant: str, max_sites: int) -> TabularVectorEnv:
    changes = json.loads(variant)
    return TabularVectorEnv(copies, table, changes=changes, feedback="reset", max_sites=max_sites)


def trained(plan: Plan, tables: Sequence[str], seed: int) -> MaskablePPO:
    """Return a policy trained on tables, every reward in units of its task's J* - mean J, so that its return is regret.

    Nothing but errors of the empty placement is in its observations.
    """
    parts = [_in_regret(tabular(plan, table, variant)) for table in tables for variant in plan.variants]
    torch.set_num_threads(1)
    settings = copy.deepcopy(plan.hyper_parameters)
    model = MaskablePPO(SitePolicy, MixedVecEnv(parts), seed=seed, gamma=1.0, device="cpu", **settings)
    return model.learn(plan.steps)


def _in_regret(envs: TabularVectorEnv) -> TabularVecEnv:
    best, mean = envs.single.table.extremes
    return TabularVecEnv(envs, reward_scale=1 / max(best - mean, SMALLEST_SPREAD))


def first_choice(model: MaskablePPO, env: CompensationTabularEnv) -> Placement:
    """Return the placement of a policy's favourite actions: no evaluation of a block."""
    return placement_of(deterministic_rollout(model, env)[-1])


def choices(model: MaskablePPO, env: CompensationTabularEnv, count: int, seed: int) -> list[Placement]:
    """Return distinct placements that are worth an evaluation: none, the favourite, then samples of the policy.

    A policy that has made up its mind draws little else; so it is asked at ever higher temperatures.
    """
    found = dict.fromkeys([env.table.space.empty(), first_choice(model, env)])
    generator = torch.Generator().manual_seed(seed)
    temperature, failed = 1.0, 0
    while len(found) < count and temperature < HOTTEST:
        placement = _drawn(model, env, temperature, generator)
        failed = failed + 1 if placement in found else 0
        found.setdefault(placement)
        if failed == PATIENCE:
            temperature, failed = temperature * 1.5, 0
    return list(found)[:count]


def _drawn(
    model: MaskablePPO, env: CompensationTabularEnv, temperature: float, generator: torch.Generator
) -> Placement:
    """Return the placement of one episode whose actions are drawn."""
    observation, info = env.reset()
    done = False
    while not done:
        seen, _ = model.policy.obs_to_tensor(observation)
        mask = info["action_mask"].astype(bool)
        with torch.no_grad():
            held: Any = model.policy.get_distribution(seen, action_masks=mask[None]).distribution
        action = torch.multinomial((held.logits[0] / temperature).softmax(-1), 1, generator=generator)
        observation, _, done, _, info = env.step(np.int64(action.item()))
    return placement_of(info)
