"""The configuration of an agent's training: one YAML file, dotted overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cimenv.core.config import Frozen, read_yaml, with_overrides

Algorithm = Literal["maskable_ppo", "ppo", "dqn", "a2c"]
Policy = Literal["mlp", "sites"]


class AgentConfig(Frozen):
    """One training run."""

    name: str = Field(pattern=r"^[\w.-]+$", description="the run's folder is runs/NAME-SEED")
    algorithm: Algorithm = "maskable_ppo"
    policy: Policy = Field("mlp", description="sites: attention over sites, for maskable_ppo on CiMCompensation-v0")
    env: Literal["CiMCompensation-v0", "CiMCompensationWalk-v0"] = "CiMCompensation-v0"
    env_arguments: dict[str, Any] = Field({}, description="arguments of gym.make, such as task and reset_hooks")
    task_overrides: tuple[str, ...] = Field((), description="dotted overrides of the task, such as chips=8")
    seed: int = Field(0, ge=0, le=2**32 - 1)
    evaluations: int = Field(150, ge=1, le=10**9, description="distinct placements of the whole run")
    steps: int = Field(10_000, ge=1, le=10**9, description="environment steps; known placements cost nothing")
    log_every: int = Field(256, ge=1, le=10**9, description="least environment steps between two rows of the logs")
    images_every: int = Field(5, ge=1, le=10**9, description="rows of the logs between two sets of pictures")
    # A few seconds of steps; evaluations are in the store and never lost.
    checkpoint_every: int = Field(512, ge=1, le=10**9, description="least environment steps between two checkpoints")
    hyper_parameters: dict[str, Any] = Field({}, description="arguments of the algorithm")

    @model_validator(mode="after")
    def _check_policy(self) -> AgentConfig:
        if self.policy == "sites" and (self.algorithm, self.env) != ("maskable_ppo", "CiMCompensation-v0"):
            raise ValueError("policy sites is for maskable_ppo on CiMCompensation-v0; use mlp")
        return self


def load_config(path: str | Path, overrides: list[str]) -> AgentConfig:
    """Read a YAML file and lay dotted overrides over it.

    Raises:
        ConfigError: a field is unknown or holds a value that is not allowed.
    """
    return AgentConfig.model_validate(with_overrides(read_yaml(path), overrides))
