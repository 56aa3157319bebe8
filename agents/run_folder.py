"""The folder of a run: whose it is, whether it is finished, and its result files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.config import AgentConfig
from agents.environment import Known
from agents.logs import PROGRESS, cut_logs
from cimenv.compensation.options import Placement
from cimenv.core.checked_rows import read_rows, write_rows
from cimenv.core.config import read_yaml
from cimenv.core.errors import ConfigError
from cimenv.core.files import CONFIGURATION, read_text
from cimenv.core.writing import only_process, whole, write_whole, writing
from cimenv.core.yaml_text import written
from cimenv.tasks import Objective

CONFIG, MODEL, PLACEMENTS, RESULT = "config.yaml", "model.zip", "placements.csv", "result.json"
COLUMNS = ("evaluation", "task", "placement", "objective", "best_so_far")


@contextmanager
def claimed(folder: Path, config: AgentConfig) -> Iterator[None]:
    """Hold a folder for one process and one configuration.

    Raises:
        ConfigError: another process trains there, or the folder belongs to another configuration or cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    taken = f"Another process trains in {folder}; wait for it or choose another name=... ."
    with only_process(folder / ".lock", taken):
        if (folder / CONFIG).exists() and begun(folder):
            _same(folder, config)
        else:
            text = written(config.model_dump(mode="json"))
            write_whole(folder / CONFIG, text)
        yield


def begun(folder: Path) -> bool:
    """Return whether a run left anything; where one was refused at once, a corrected configuration may follow."""
    return any((folder / name).exists() for name in ("checkpoint", RESULT, PROGRESS))


def _same(folder: Path, config: AgentConfig) -> None:
    there = AgentConfig(**read_yaml(folder / CONFIG)).model_dump(mode="json")
    here = config.model_dump(mode="json")
    different = [name for name in here if there[name] != here[name]]
    if different:
        raise ConfigError(
            f"{folder} holds a run of another configuration ({', '.join(different)} differ); choose another name=... "
            "or delete the folder."
        )


def start_afresh(folder: Path) -> None:
    """Remove what a run left that was interrupted before its first checkpoint."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    cut_logs(folder, {})


def write_results(
    folder: Path, model: BaseAlgorithm, known: Known, final: Placement, objective: Objective
) -> dict[str, Any]:
    """Write model.zip, placements.csv and, last, result.json, whose presence says that the run is finished."""
    with whole(folder / MODEL) as part:
        model.save(part)
    best, best_value = write_placements(folder / PLACEMENTS, known, objective)
    key = objective.task.key
    result = {
        "final": list(final),
        "best": list(best),
        "final_objective": known[key, final],
        "best_objective": best_value,
        "evaluations": len(known),
        "steps": model.num_timesteps,
        "task": key,
    }
    write_whole(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def write_placements(path: Path, known: Known, objective: Objective) -> tuple[Placement, float]:
    """Write every distinct placement in order, with the task's best so far, and return the best and its objective.

    Placements that reset hooks made of other tasks are listed, but do not compete. Order is `Objective.rank`.
    """
    key, best = objective.task.key, None
    rows: list[tuple[Any, ...]] = []
    for number, ((task, placement), value) in enumerate(known.items(), 1):
        if task == key and (best is None or objective.rank(placement, value) > objective.rank(*best)):
            best = (placement, value)
        rows.append((number, task, " ".join(map(str, placement)), value, best[1] if best is not None else ""))
    write_rows(path, COLUMNS, rows)
    assert best is not None, "the final rollout begins with the task's empty placement"
    return best


def read_placements(path: Path) -> Known:
    """Return the points that `write_placements` wrote.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        return {
            (row["task"], tuple(int(option) for option in row["placement"].split())): float(row["objective"])
            for row in read_rows(path, COLUMNS)
        }
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        raise ConfigError(f"{path} is missing or damaged; train again under another name=... .") from None


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a finished run, None for an unfinished one.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = json.loads(read_text(path, CONFIGURATION))
        result["final"], result["best"] = tuple(result["final"]), tuple(result["best"])
        return dict(result)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{path} is damaged; delete it to let the run finish again.") from None
