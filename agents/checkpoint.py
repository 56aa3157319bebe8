"""Checkpoints from which a run goes on bit by bit as if it had never been interrupted.

A checkpoint is a folder `checkpoint/STEP` with SB3's `model.zip` (and a DQN's `replay_buffer.pkl`) and `state.json`:
environment, monitor, callback, generators, pending log values and the lengths of the log files. It is written under
another name and renamed when complete; then older ones go.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from agents.algorithms import ALGORITHMS
from agents.config import AgentConfig
from agents.environment import placement_env
from agents.logs import cut_logs, log_lengths, open_logger, pending_logs, restore_pending
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.files import RECORD, read_text
from cimenv.envs import EvaluationBudget
from cimenv.sb3 import PlacementCallback

VERSION = 1
MODEL, REPLAY, STATE = "model.zip", "replay_buffer.pkl", "state.json"
WRITING = "writing"


@dataclass(frozen=True)
class Session:
    """The parts of a run under way that a checkpoint holds.

    Attributes:
        config: of the run.
        env: monitor over the budget of evaluations.
        dashboard: the callback that reports.
        folder: the run's folder.
    """

    config: AgentConfig
    env: Monitor[Any, Any]
    dashboard: PlacementCallback
    folder: Path

    @property
    def budget(self) -> EvaluationBudget:
        """Return the wrapper that counts evaluations."""
        assert isinstance(self.env.env, EvaluationBudget)
        return self.env.env


class CheckpointCallback(BaseCallback):
    """Saves at starts of rollouts, where SB3 holds no half-filled buffer."""

    def __init__(self, session: Session, every: int) -> None:
        super().__init__()
        self.session, self.every = session, every

    def _on_training_start(self) -> None:
        self.saved_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self.saved_at >= self.every:
            self.saved_at = self.model.num_timesteps
            save(self.model, self.session)

    def _on_step(self) -> bool:
        return True


def latest(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, None if there is none."""
    return max((path for path in (run / "checkpoint").glob("[0-9]*") if path.is_dir()), default=None)


def save(model: BaseAlgorithm, session: Session) -> None:
    """Write a checkpoint; at every moment one complete checkpoint is there."""
    home = session.folder / "checkpoint"
    writing, final = home / WRITING, home / f"{model.num_timesteps:012d}"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    model.save(writing / MODEL)
    if isinstance(model, OffPolicyAlgorithm):
        model.save_replay_buffer(writing / REPLAY)
    # Python's JSON writes and reads NaN: SB3 logs it where all returns are alike.
    (writing / STATE).write_text(json.dumps(_state(model, session)), encoding="utf-8")
    for path in writing.iterdir():
        _synced(path)
    older = [path for path in home.iterdir() if path not in (writing, final)]
    writing.rename(final)
    _synced(home)
    for path in older:
        shutil.rmtree(path, ignore_errors=True)


def load(checkpoint: Path, session: Session) -> BaseAlgorithm:
    """Return the agent of a checkpoint; environment, callback, generators and log files go back to that moment.

    Raises:
        ConfigError: the checkpoint is damaged, or the task is another one.
    """
    try:
        state = json.loads(read_text(checkpoint / STATE, RECORD))
        if state["version"] != VERSION:
            raise ConfigError(
                f"{checkpoint} has format {state['version']}, this cimenv reads {VERSION}; delete the run's folder "
                "and start again."
            )
        if state["task"] != placement_env(session.env).base_task.key:
            raise ConfigError(
                f"{session.folder} was begun on another version of its task; choose another name=... or delete it."
            )
        session.env.reset(seed=session.config.seed)  # wrappers of gym.make want one before a step
        session.budget.restore(state["env"])
        vars(session.env).update(state["monitor"])
        session.dashboard.restore(state["dashboard"])
        algorithm = ALGORITHMS[session.config.algorithm]
        model = algorithm.load(checkpoint / MODEL, env=session.env, device="cpu", force_reset=False)
        if isinstance(model, OffPolicyAlgorithm):
            with (checkpoint / REPLAY).open("rb") as file:
                model.load_replay_buffer(file)
    except CimenvError:
        raise
    except Exception as error:  # whatever a damaged file makes json, zipfile, torch or pickle say
        raise ConfigError(
            f"{checkpoint} is damaged ({type(error).__name__}); delete {session.folder} and start again."
        ) from None
    cut_logs(session.folder, state["files"])
    model.set_logger(open_logger(session.folder))
    restore_pending(model.logger, state["logger"])
    _set_generators(model, state["generators"])
    return model


def _state(model: BaseAlgorithm, session: Session) -> dict[str, Any]:
    monitor = ("rewards", "needs_reset", "episode_returns", "episode_lengths", "episode_times", "total_steps")
    return {
        "version": VERSION,
        "steps": model.num_timesteps,
        "task": placement_env(session.env).base_task.key,
        "env": session.budget.state(),
        "monitor": {name: getattr(session.env, name) for name in monitor},
        "dashboard": session.dashboard.state(),
        "logger": pending_logs(model.logger),
        "generators": _generators(model),
        "files": log_lengths(model.logger),
    }


def _generators(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the global generators that SB3 draws from, and that of the action space, as JSON values."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = [int(word) for word in numpy_state["state"]["key"]]
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": key}},
        "python": [version, list(words), gauss],
        "action_space": model.action_space.np_random.bit_generator.state,
    }


def _set_generators(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state["torch"]), dtype=torch.uint8))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    model.action_space.np_random.bit_generator.state = state["action_space"]


def _synced(path: Path) -> None:
    """Make sure that a file, or the names in a folder, reached the disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
