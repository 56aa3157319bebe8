"""Judge a finished run on fresh chips: `python -m agents.evaluate runs/NAME-SEED [--json] [--trust]`.

Rolls the final policy out deterministically, takes the best placement the run has seen, and evaluates both and the
empty placement with tuned blocks on the test split and the task's report chips. Prints a table and writes
evaluation.json into the run's folder. The folder's model.zip is a pickle, which can run code: a line says so before it
is opened. A backbone or data set of your own that its config.yaml names is imported only with --trust.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms import ALGORITHMS, before_opening
from agents.config import AgentConfig, load_config
from agents.environment import judged_env, placement_env, task_of
from agents.run_folder import CONFIG, MODEL, PLACEMENTS, read_placements, read_result
from agents.train import one_thread
from cimenv.compensation.options import Placement
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.files import WEIGHTS, checked_file
from cimenv.core.modules import untrusted
from cimenv.core.writing import write_whole
from cimenv.evaluation.intervals import mean_interval
from cimenv.evaluation.record import Evaluation
from cimenv.sb3 import deterministic_rollout, placement_of
from cimenv.tasks import Evaluator, Objective

EVALUATION = "evaluation.json"
ROWS = {"none": "no blocks", "final": "final policy", "best": "best seen"}


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def evaluate(
    run: Path, evaluator: Evaluator | None = None, *, trust: bool = False, say: Callable[[str], None] = _warn
) -> dict[str, Any]:
    """Evaluate a run's placements on the test split, write evaluation.json and return its content.

    Args:
        run: folder of a finished run.
        evaluator: in the place of the task's.
        trust: whether a backbone or data set of one's own that its configuration names may be imported.
        say: told in one line what opening the run's policy means.

    Raises:
        ConfigError: the folder holds no finished run, its files do not fit together, or its configuration names a
            module and is not trusted.
    """
    config = finished_run(run)
    if evaluator is None and not trust:
        with untrusted(run / CONFIG):
            task_of(config).as_read_from(run / CONFIG).check_imports()
    known = read_placements(run / PLACEMENTS)
    env = judged_env(config, evaluator, dict(known))
    say(before_opening(run / MODEL))
    model = load_policy(run / MODEL, config, env)
    inner = placement_env(env)
    judge = inner.evaluator
    key = inner.base_task.key
    own = {placement: value for (task, placement), value in known.items() if task == key}
    if not own:
        raise ConfigError(
            f"{run / PLACEMENTS} holds no placement of the task that {CONFIG} describes now; restore {CONFIG} or train "
            "again under another name=... ."
        )
    with one_thread():
        final = placement_of(deterministic_rollout(model, env)[-1])
    objective = Objective.of(judge)
    best = max(own, key=lambda placement: objective.rank(placement, own[placement]))
    report = judged(judge, {"none": judge.space.empty(), "final": final, "best": best})
    write_whole(run / EVALUATION, json.dumps(report, indent=2) + "\n")
    return report


def finished_run(run: Path) -> AgentConfig:
    """Return the configuration of a finished run.

    Raises:
        ConfigError: the folder is no run, or the run is not finished.
    """
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run} is not a run folder (it has no {CONFIG}); give one that agents.train made.")
    config = load_config(run / CONFIG, [])
    if read_result(run) is None:
        where = "" if run.resolve().parent == Path("runs").resolve() else f" --runs {run.parent}"
        raise ConfigError(
            f"{run} is not finished (it has no result.json); go on with: python -m agents.train {run / CONFIG}{where}"
        )
    return config


def load_policy(path: Path, config: AgentConfig, env: gym.Env[Any, Any]) -> BaseAlgorithm:
    """Return a saved agent, checked against an environment.

    Raises:
        ConfigError: the file is missing, damaged, of another algorithm, or made for spaces of other sizes.
    """
    try:
        checked_file(path, WEIGHTS)
        model = ALGORITHMS[config.algorithm].load(path, device="cpu")
        theirs = _sizes(model.observation_space, model.action_space)
    except Exception as error:  # whatever a damaged file makes zipfile, json, pickle or torch say
        raise ConfigError(
            f"{path} is missing, damaged or not of {config.algorithm} ({type(error).__name__}); train again under "
            "another name=... ."
        ) from None
    ours = _sizes(env.observation_space, env.action_space)
    if theirs != ours:
        raise ConfigError(
            f"{path} is a policy for {theirs[0]} observed numbers and {theirs[1]} actions, but {config.env} on task "
            f"'{placement_env(env).base_task.name}' has {ours[0]} and {ours[1]}; restore {path.parent / CONFIG} or "
            "train again under another name=... ."
        )
    return model


def judged(evaluator: Evaluator, rows: dict[str, Placement]) -> dict[str, Any]:
    """Return what every placement reaches with tuned blocks on the test split.

    Intervals are 95 %. `of_loss` is the share of what variation took that came back (0 without blocks, 1 at the
    reference accuracy), `of_reference` the mean accuracy over the reference accuracy. Differences are paired: every
    chip with a placement's blocks against the same chip without.
    """
    tested = {name: evaluator.evaluate(placement, "test", "tuned") for name, placement in rows.items()}
    searched, reached = Objective.of(evaluator), tested["none"].value("mean")
    acc_ref = evaluator.reference_accuracy("test")
    report: dict[str, Any] = {
        "task": evaluator.task.name,
        "task_key": evaluator.task.key,
        "split": "test",
        "fidelity": "tuned",
        "chips": tested["none"].chips,
        "images": tested["none"].images,
        "reference_accuracy": acc_ref,
        "clean_accuracy": evaluator.clean_accuracy("test"),
        "placements": {},
    }
    for name, placement in rows.items():
        evaluation = tested[name]
        mean = evaluation.value("mean")
        report["placements"][name] = {
            "placement": list(placement),
            "objective_val_bank": searched.value(evaluator.evaluate(placement)),
            "mean": mean,
            "mean_interval": _pair(evaluation.interval("mean")),
            "percentile_05": evaluation.value("percentile", 0.05),
            "percentile_05_interval": _pair(evaluation.interval("percentile", 0.05)),
            "of_reference": mean / acc_ref,
            "of_loss": (mean - reached) / (acc_ref - reached) if acc_ref > reached else None,
            "cost": {**evaluator.space.shares(placement), "scalar": evaluator.space.scalar_cost(placement)},
            "difference": _difference(evaluation, tested["none"]),
        }
    return report


def table(report: dict[str, Any], run: Path) -> Table:
    """Return the report as a table."""
    title = (
        f"{run}: {report['task']}, {report['split']} split, {report['fidelity']} blocks, {report['chips']} fresh chips "
        f"x {report['images']} images. Clean accuracy: standard recipe {report['reference_accuracy']:.1%}, this "
        f"backbone {report['clean_accuracy']:.1%}. Intervals: 95 %."
    )
    shown = Table(title=title, title_justify="left")
    for column in ("", "placement", "J (val)", "mean", "interval", "5 % pct", "of ref", "of loss", "- none"):
        shown.add_column(column, justify="left" if column in ("", "placement") else "right")
    for term in ("weights", "macs", "energy"):
        shown.add_column(f"+{term}", justify="right")
    for name, row in report["placements"].items():
        of_loss = row["of_loss"]
        shown.add_row(
            ROWS[name],
            " ".join(map(str, row["placement"])),
            f"{row['objective_val_bank']:.3f}",
            f"{row['mean']:.1%}",
            _percent(row["mean_interval"]),
            f"{row['percentile_05']:.1%}",
            f"{row['of_reference']:.1%}",
            "-" if of_loss is None else f"{of_loss:.0%}",
            "" if name == "none" else f"{row['difference']['mean']:+.2%} {_percent(row['difference']['interval'])}",
            *(f"{row['cost'][term]:.2%}" for term in ("weights", "macs", "energy")),
        )
    return shown


def _difference(evaluation: Evaluation, none: Evaluation) -> dict[str, Any]:
    paired = evaluation.accuracy - none.accuracy
    return {"mean": float(paired.mean()), "interval": _pair(mean_interval(paired))}


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [float(end) for end in interval]


def _percent(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.2%}, {interval[1]:.2%}]"


def _sizes(observations: gym.Space[Any], actions: gym.Space[Any]) -> tuple[int, int]:
    assert isinstance(observations, gym.spaces.Box) and isinstance(actions, gym.spaces.Discrete)
    return int(observations.shape[0]), int(actions.n)


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser("agents.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/maskable_ppo-0")
    parser.add_argument("--trust", action="store_true", help="import the backbone or data of yours that it names")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")
    given = parser.parse_args(arguments)
    try:
        report = evaluate(given.run, trust=given.trust)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(report, indent=2))
    else:
        console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=160)
        console.print(table(report, given.run))
        print(f"The same numbers: {given.run / EVALUATION}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
