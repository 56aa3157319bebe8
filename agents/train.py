"""Train an agent: `python -m agents.train configs/agents/maskable_ppo.yaml [key=value ...]`.

Leaves in runs/NAME-SEED/: config.yaml, model.zip, progress.csv, the TensorBoard files, placements.csv (every distinct
placement in the order of its first evaluation), result.json (the final policy's placement and the best one seen) and
checkpoint/. The same command goes on with an interrupted run, bit by bit as if it had never stopped;
docs/guide/agents.md says more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from agents import checkpoint
from agents.algorithms import before_opening, new_model
from agents.checkpoint import CheckpointCallback, Session
from agents.config import AgentConfig, load_config
from agents.environment import judged_env, make_env, placement_env
from agents.logs import open_logger
from agents.run_folder import claimed, read_result, start_afresh, write_results
from cimenv.compensation.options import Placement
from cimenv.core.errors import CimenvError
from cimenv.core.progress import Advance, bar
from cimenv.core.writing import disk_faults
from cimenv.sb3 import PlacementCallback, deterministic_rollout
from cimenv.tasks import Evaluator, Objective

USAGE = "python -m agents.train [-h] [--runs FOLDER] CONFIG [key=value ...]"


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser("agents.train", description=__doc__.splitlines()[0], usage=USAGE)
    parser.add_argument("config", help="a YAML file, such as configs/agents/maskable_ppo.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides, such as seed=1")
    parser.add_argument("--runs", default="runs", type=Path, metavar="FOLDER", help="where run folders lie")
    given = parser.parse_intermixed_args(arguments)
    try:
        config = load_config(given.config, given.overrides)
        agent = train(config, given.runs / f"{config.name}-{config.seed}", say=print)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    print(f"final policy {agent.final}, best seen {agent.best}, {agent.evaluations} distinct evaluations")
    print(f"run folder {agent.folder}; look at it with: tensorboard --logdir {agent.folder.parent}")
    return 0


@dataclass(frozen=True)
class TrainedAgent:
    """What a run found: the final policy's placement and the best one it saw, with the run's distinct evaluations."""

    final: Placement
    best: Placement
    evaluations: int
    folder: Path


def train(
    config: AgentConfig,
    folder: Path,
    evaluator: Evaluator | None = None,
    *,
    callback: BaseCallback | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> TrainedAgent:
    """Train one agent and write its run folder; go on with an interrupted run, return the result of a finished one.

    Args:
        config: of the run.
        folder: the run's own.
        evaluator: in the place of the task's.
        callback: one more, called after the others.
        say: told in one line what a run goes on with.

    Raises:
        ConfigError: the folder belongs to another configuration or cannot be written, or a checkpoint is damaged.
    """
    with disk_faults(folder), claimed(folder, config):
        result = read_result(folder)
        if result is not None:
            say(f"{folder} is finished: {result['steps']} steps; nothing to train.")
        else:
            result = _trained(config, folder, evaluator, callback, say)
    return TrainedAgent(tuple(result["final"]), tuple(result["best"]), result["evaluations"], folder)


def _trained(
    config: AgentConfig,
    folder: Path,
    evaluator: Evaluator | None,
    callback: BaseCallback | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train what is left of a run; return its result."""
    env = make_env(config, evaluator)
    task = placement_env(env).evaluator
    dashboard = PlacementCallback(config.log_every, config.images_every)
    session = Session(config, env, dashboard, folder)
    judged = judged_env(config, task, session.budget.known)

    with one_thread():
        model, new = _agent(session, say)
        dashboard.final = lambda: deterministic_rollout(model, judged)
        left = config.steps - model.num_timesteps
        callbacks = [dashboard, CheckpointCallback(session, config.checkpoint_every)]
        try:
            with bar("training the agent", left) as advance:
                model.learn(
                    left,
                    callback=CallbackList([*callbacks, _Advance(advance), *([callback] if callback else [])]),
                    log_interval=None,  # type: ignore[arg-type]  # the dashboard writes the rows
                    reset_num_timesteps=new,
                )
        finally:
            model.logger.close()

    assert dashboard.history is not None and dashboard.history.last is not None
    result = write_results(folder, model, session.budget.known, dashboard.history.last, Objective.of(task))
    env.close()
    return result


def _agent(session: Session, say: Callable[[str], None]) -> tuple[BaseAlgorithm, bool]:
    """Return the agent as its last checkpoint left it, or a new one; and whether it is new."""
    saved = checkpoint.latest(session.folder)
    if saved is not None:
        say(before_opening(saved))
        model = checkpoint.load(saved, session)
        steps = f"step {model.num_timesteps} of {session.config.steps}"
        say(f"{session.folder} was interrupted; going on from {steps}.")
        return model, False
    start_afresh(session.folder)
    model = new_model(session.config, session.env)
    model.set_logger(open_logger(session.folder))
    return model, True


class _Advance(BaseCallback):
    """Moves a bar."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self.advance = advance

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
        return True


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the policy network is tiny, and sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
