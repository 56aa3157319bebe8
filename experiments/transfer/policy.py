"""A policy over sites, trained on tables at several budgets and prices, that sees only the unprotected network."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from torch import Tensor

from agents.algorithms import before_opening
from cimenv.compensation.options import Placement
from cimenv.core.config import canonical
from cimenv.envs import CompensationTabularEnv, TabularVectorEnv
from cimenv.sb3 import MixedVecEnv, SitePolicy, TabularVecEnv, placement_of
from experiments.transfer.plan import Job, Plan, Training

SMALLEST_SPREAD = 0.01  # of J
PATIENCE = 8  # episodes in a row without a new placement after which the temperature rises
HOTTEST = 1e4
Models = Sequence[MaskablePPO]  # one policy, or a committee


def tabular(plan: Plan, table: str, variant: Mapping[str, Any], fit_log: bool = True) -> CompensationTabularEnv:
    """Return the environment of a table at one budget and price; `fit_log` adds the log of its bank's fit."""
    return CompensationTabularEnv(table, variant, feedback="reset", max_sites=plan.max_sites, fit_log=fit_log)


def many(plan: Plan, table: str, variant: Mapping[str, Any], fit_log: bool) -> TabularVectorEnv:
    """Return the plan's copies of that environment as arrays; a process makes them once."""
    return _many(plan.copies, table, canonical(variant), plan.max_sites, fit_log)


@cache
def _many(copies: int, table: str, variant: str, max_sites: int, fit_log: bool) -> TabularVectorEnv:
    changes = json.loads(variant)
    return TabularVectorEnv(copies, table, changes=changes, feedback="reset", max_sites=max_sites, fit_log=fit_log)


def trained(plan: Plan, how: Training, tables: Sequence[str], seed: int) -> MaskablePPO:
    """Return a policy trained on tables, every reward in units of its task's J* - mean J, so that its return is regret.

    No evaluation of a block is in its observations: errors of the empty placement, perhaps the log of the bank's fit.
    """
    parts = [_in_regret(many(plan, table, variant, how.fit_log)) for table in tables for variant in plan.variants]
    torch.set_num_threads(1)
    settings = copy.deepcopy(how.hyper_parameters)
    layout = parts[0].envs.single.layout.arguments
    settings["policy_kwargs"] = {"layout": layout, **settings.get("policy_kwargs", {})}
    model = MaskablePPO(SitePolicy, MixedVecEnv(parts), seed=seed, gamma=1.0, device="cpu", **settings)
    return model.learn(how.steps)


def kept(plan: Plan, job: Job, folder: Path) -> MaskablePPO:
    """Return the policy of a job from a folder; it is trained where that has none."""
    path = folder / f"{job.name}.zip"
    if path.exists():
        _say(folder)
        return MaskablePPO.load(path, device="cpu")
    model = trained(plan, plan.training(job), plan.split(job.held_out)[0], job.seed)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    model.save(unfinished)
    unfinished.replace(path)
    return model


@cache
def _say(folder: Path) -> None:
    print(before_opening(folder), file=sys.stderr)  # once for all policies of an experiment


def _in_regret(envs: TabularVectorEnv) -> TabularVecEnv:
    best, mean = envs.single.table.extremes
    return TabularVecEnv(envs, reward_scale=1 / max(best - mean, SMALLEST_SPREAD))


def first_choice(models: Models, env: CompensationTabularEnv) -> Placement:
    """Return the placement of a policy's favourite actions: no evaluation of a block."""
    return _episode(models, env, lambda logits: int(logits.argmax()))


def choices(models: Models, env: CompensationTabularEnv, count: int, seed: int) -> list[Placement]:
    """Return distinct placements that are worth an evaluation: none, the favourite, then samples of the policy.

    A policy that has made up its mind draws little else; so it is asked at ever higher temperatures.
    """
    chosen = dict.fromkeys([env.table.space.empty(), first_choice(models, env)])
    generator = torch.Generator().manual_seed(seed)
    temperature, failed = 1.0, 0

    def drawn(logits: Tensor) -> int:
        return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))

    while len(chosen) < count and temperature < HOTTEST:
        placement = _episode(models, env, drawn)
        failed = failed + 1 if placement in chosen else 0
        chosen.setdefault(placement)
        if failed == PATIENCE:
            temperature, failed = temperature * 1.5, 0
    return list(chosen)[:count]


def _episode(models: Models, env: CompensationTabularEnv, pick: Callable[[Tensor], int]) -> Placement:
    """Return the placement of one episode; several policies decide by the mean of their log-probabilities."""
    observation, info = env.reset()
    done = False
    while not done:
        mask = info["action_mask"].astype(bool)[None]
        with torch.no_grad():
            logits = torch.stack([_logits(model, observation, mask) for model in models]).mean(0)
        observation, _, terminated, truncated, info = env.step(np.int64(pick(logits)))
        done = terminated or truncated
    return placement_of(info)


def _logits(model: MaskablePPO, observation: np.ndarray, mask: np.ndarray) -> Tensor:
    seen, _ = model.policy.obs_to_tensor(observation)
    held: Any = model.policy.get_distribution(seen, action_masks=mask).distribution
    logits: Tensor = held.logits[0]
    return logits
