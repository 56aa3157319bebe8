"""Train every algorithm with several seeds: `python -m experiments.agents_seeds [YAML ...] [--seeds N]`.

All 1,024 placements of the default task are enumerated first, so that the optimum is known and a run costs only its own
arithmetic; every run still pays for the distinct placements it asks for. Writes seeds.csv (a row a run; runs that are
there are not repeated), table.md and targets.json into results/agents_seeds/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from agents.config import AgentConfig, load_config
from agents.environment import make_env, placement_env
from agents.train import train
from cimenv.core.checked_rows import appending, read_rows
from cimenv.core.errors import CimenvError
from cimenv.core.progress import bar
from cimenv.search import run_search
from cimenv.tasks import Evaluator, Objective
from experiments.lab.experiment import target, write_targets

ROOT = Path(__file__).parents[2]
OUT, RUNS = ROOT / "results/agents_seeds", ROOT / "runs/agents_seeds"
COLUMNS = ("algorithm", "seed", "final", "final_objective", "best", "best_objective", "evaluations", "optimum")
ALL = tuple(f"configs/agents/{name}.yaml" for name in ("maskable_ppo", "ppo", "dqn", "a2c"))
WITHIN = 0.01


def run(configs: list[AgentConfig], out: Path, runs: Path) -> list[dict[str, Any]]:
    """Train what is missing, a row of seeds.csv each, and return all rows."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "seeds.csv"
    known = read_rows(path, COLUMNS) if path.exists() else []
    done = {(row["algorithm"], int(row["seed"])) for row in known}
    evaluator = placement_env(make_env(configs[0])).evaluator
    optimum = run_search(evaluator, "exhaustive").objective
    append = appending(path, COLUMNS)
    with bar("training agents", len(configs)) as advance:
        for config in configs:
            if (config.name, config.seed) not in done:
                row = _row(config, evaluator, optimum, runs)
                append([row[name] for name in COLUMNS])
            advance()
    return list(read_rows(path))


def _row(config: AgentConfig, evaluator: Evaluator, optimum: float, runs: Path) -> dict[str, Any]:
    agent = train(config, runs / f"{config.name}-{config.seed}", evaluator)
    objective = Objective.of(evaluator)
    values = {name: objective.value(evaluator.evaluate(getattr(agent, name))) for name in ("final", "best")}
    return {
        "algorithm": config.name,
        "seed": config.seed,
        "final": " ".join(map(str, agent.final)),
        "final_objective": values["final"],
        "best": " ".join(map(str, agent.best)),
        "best_objective": values["best"],
        "evaluations": agent.evaluations,
        "optimum": optimum,
    }


def shares(rows: list[dict[str, Any]], algorithm: str, which: str) -> np.ndarray:
    """Return the objective as a share of the optimum's, a number a seed."""
    return np.array([float(r[f"{which}_objective"]) / float(r["optimum"]) for r in rows if r["algorithm"] == algorithm])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| algorithm | seeds | evaluations | final J / optimum: median (least, most) | best seen J / optimum | "
        f"final within {WITHIN:.0%} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        final, best = shares(rows, name, "final"), shares(rows, name, "best")
        spent = max(int(row["evaluations"]) for row in rows if row["algorithm"] == name)
        parts = [f"{np.median(x):.3f} ({x.min():.3f}, {x.max():.3f})" for x in (final, best)]
        within = f"{int((final >= 1 - WITHIN).sum())} of {len(final)}"
        lines.append(f"| {name} | {len(final)} | {spent} | {parts[0]} | {parts[1]} | {within} |")
    return "\n".join(lines) + "\n"


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the target on the agent of the default task: seed 0, which the demonstration runs, and the median."""
    found = []
    for what, measured in (
        ("seed 0", shares([row for row in rows if int(row["seed"]) == 0], "maskable_ppo", "final")),
        ("median over seeds", shares(rows, "maskable_ppo", "final")),
    ):
        share = float(np.median(measured)) if len(measured) else float("nan")
        name = f"MaskablePPO's final placement on the default task, {what}: share of the enumerated optimum's J"
        found.append(target(name, f">= {1 - WITHIN}", share, share >= 1 - WITHIN, "python -m experiments.agents_seeds"))
    return found


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser("experiments.agents_seeds", description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", default=[str(ROOT / path) for path in ALL], help="YAML files of agents")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    given = parser.parse_args(arguments)
    try:
        configs = [load_config(path, [f"seed={seed}"]) for path in given.configs for seed in range(given.seeds)]
        rows = run(configs, OUT, RUNS)
    except CimenvError as error:
        print(error, file=sys.stderr)
        return 2
    (OUT / "table.md").write_text(table(rows))
    write_targets(OUT, targets(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
