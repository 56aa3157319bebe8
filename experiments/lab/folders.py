"""Where an experiment's files lie: configs/experiments/NAME.yaml, results/NAME, and runs/NAME for what is trained."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def config_of(name: str) -> Path:
    """Return the configuration of an experiment."""
    return ROOT / f"configs/experiments/{name}.yaml"


def results_of(name: str) -> Path:
    """Return the folder of an experiment's results."""
    return ROOT / "results" / name


def runs_of(name: str) -> Path:
    """Return the folder of what an experiment trains."""
    return ROOT / "runs" / name


def command_of(name: str) -> str:
    """Return the command that runs an experiment."""
    return f"python -m experiments.{name}"
