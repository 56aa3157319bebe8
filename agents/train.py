"""Train an agent: `python -m agents.train configs/agents/maskable_ppo.yaml [key=value ...]`.

Leaves in runs/NAME-SEED/: config.yaml, model.zip, the TensorBoard files, placements.csv (every distinct placement in
the order of its first evaluation) and result.json (the final policy's placement and the best one seen).
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import yaml
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

import cimenv
from agents.config import AgentConfig, load_config
from cimenv.compensation.options import Placement
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.progress import bar
from cimenv.envs import EvaluationBudget
from cimenv.envs.base import PlacementEnv
from cimenv.sb3 import PlacementCallback
from cimenv.tasks import Evaluator, load_task


@dataclass(frozen=True)
class TrainedAgent:
    """What a run found: the final policy's placement and the best one it saw, with the run's distinct evaluations."""

    final: Placement
    best: Placement
    evaluations: int
    folder: Path


class _Bar(BaseCallback):
    def __init__(self, total: int) -> None:
        super().__init__()
        self.total = total

    def _on_training_start(self) -> None:
        self.opened = bar("training the agent", self.total)
        self.advance = self.opened.__enter__()

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self.opened.__exit__(None, None, None)


def train(config: AgentConfig, folder: Path, evaluator: Evaluator | None = None) -> TrainedAgent:
    """Train one agent and write its run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))

    env = make_env(config, evaluator)
    placements = env.unwrapped
    assert isinstance(placements, PlacementEnv)
    callback = PlacementCallback(action_names(placements))

    # The policy network is tiny: one thread is fastest, and sums come in one order.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = MaskablePPO("MlpPolicy", env, seed=config.seed, device="cpu", **config.hyper_parameters)
    except TypeError as error:
        raise ConfigError(f"hyper_parameters: {error}; use arguments of {config.algorithm}.") from None
    model.set_logger(configure(str(folder), ["tensorboard", "csv"]))
    try:
        model.learn(config.steps, callback=CallbackList([callback, _Bar(config.steps)]))
    finally:
        torch.set_num_threads(threads)
        model.logger.close()
    model.save(folder / "model.zip")

    final = deterministic_placement(model, env)
    budget = env.env
    assert isinstance(budget, EvaluationBudget)
    write_placements(folder / "placements.csv", budget)
    best = max(budget.known, key=lambda key: budget.known[key])[1]
    result = {"final": final, "best": best, "evaluations": budget.spent}
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    env.close()
    return TrainedAgent(final, best, budget.spent, folder)


def make_env(config: AgentConfig, evaluator: Evaluator | None = None) -> Monitor[Any, Any]:
    """Return the environment of a run: budget of distinct evaluations, then SB3's monitor."""
    arguments = dict(config.env_arguments)
    if evaluator is not None:
        arguments["evaluator"] = evaluator
    elif config.task_overrides:
        task = load_task(arguments.get("task", "lenet5-fashion-mini"), list(config.task_overrides))
        arguments["task"] = task.model_dump(mode="json")
    try:
        inner = gym.make(config.env, **arguments)
    except TypeError as error:
        raise ConfigError(f"env_arguments: {error}; use arguments of {config.env}.") from None
    env = EvaluationBudget(inner, config.evaluations)
    env.reset(seed=config.seed)
    return Monitor(env)


def deterministic_placement(model: MaskablePPO, env: Monitor[Any, Any]) -> Placement:
    """Return the placement at the end of a deterministic rollout."""
    observation, info = env.reset()
    done = False
    while not done:
        action, _ = model.predict(observation, action_masks=info["action_mask"].astype(bool), deterministic=True)
        observation, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    return tuple(int(option) for option in info["placement"] if option >= 0)


def action_names(env: PlacementEnv) -> list[tuple[str, str]]:
    """Return (site, option label) of every action but stop (Walk: of every option)."""
    options = env.base_task.block_options()
    sites = [site.name for site in options.sites] + [f"padding{k}" for k in range(env.max_sites - len(options.sites))]
    width = env.layout.options
    labels = {
        site: [option.label for option in here] + ["-"] * (width - len(here))
        for site, here in zip(sites, options.per_site, strict=False)
    }
    if not isinstance(env, cimenv.envs.CompensationEnv):
        return [("any", f"option {o}") for o in range(1, width + 1)]
    return [(site, label) for site in sites for label in labels.get(site, ["-"] * width)]


def write_placements(path: Path, budget: EvaluationBudget) -> None:
    """Write every distinct placement in order, with the best objective so far."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["evaluation", "task", "placement", "objective", "best_so_far"])
        best = float("-inf")
        for number, ((task, placement), objective) in enumerate(budget.known.items(), 1):
            best = max(best, objective)
            writer.writerow([number, task, " ".join(map(str, placement)), repr(objective), repr(best)])


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        config = load_config(arguments[0], arguments[1:])
        agent = train(config, Path("runs") / f"{config.name}-{config.seed}")
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"final policy {agent.final}, best seen {agent.best}, {agent.evaluations} distinct evaluations")
    print(f"run folder {agent.folder}; look at it with: tensorboard --logdir {agent.folder.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
