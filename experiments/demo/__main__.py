"""Train everything of the default task afresh, let an agent place blocks, compare: `python -m experiments.demo`.

Leaves summary.json, table.md, two pictures and the configuration in results/demo/, the TensorBoard folder in
runs/demo/.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.config import load_config
from agents.train import train
from cimenv.compensation.options import Placement
from cimenv.core.errors import CimenvError
from cimenv.core.progress import bar
from cimenv.core.store import Store
from cimenv.core.writing import disk_faults
from cimenv.core.yaml_text import written
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, Objective, load_task
from experiments.lab.figures import accuracy_against_weights
from experiments.lab.targets import target, write_targets

ROOT = Path(__file__).parents[2]
OUT, RUN = ROOT / "results/demo", ROOT / "runs/demo"
AGENT = ROOT / "configs/agents/maskable_ppo.yaml"


def main() -> int:
    """Run the demonstration."""
    start = time.monotonic()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    config = load_config(AGENT, ["name=demo"])
    task = load_task(config.env_arguments["task"], list(config.task_overrides))
    (OUT / "config.yaml").write_text(
        written({"agent": config.model_dump(mode="json"), "task": task.model_dump(mode="json")})
    )

    console.print(f"[bold]{task.name}[/]: {task.description}")
    console.print("Training backbone and blocks afresh, then an agent, three searches and all placements.")
    evaluator = MonteCarloEvaluator(task, Store(RUN / "store"), progress=bar)
    agent = train(config, RUN / "agent", evaluator)
    searches = {method: run_search(evaluator, method) for method in ("greedy", "knapsack", "exhaustive")}
    space = evaluator.space
    rows: dict[str, tuple[Placement, int]] = {
        "none": (space.empty(), 1),
        "affine": (space.uniform("affine"), 1),
        "agent": (agent.final, agent.evaluations),
        "agent_best": (agent.best, agent.evaluations),
        "greedy": (searches["greedy"].best, searches["greedy"].evaluations),
        "knapsack": (searches["knapsack"].best, searches["knapsack"].evaluations),
        "optimum": (searches["exhaustive"].best, searches["exhaustive"].evaluations),
        "all": (space.largest(), 1),
    }
    summary = summarise(evaluator, rows)
    tested = {name: evaluator.evaluate(placement, "test", "tuned") for name, (placement, _) in rows.items()}
    accuracy_against_weights(OUT / "placements.png", evaluator, tested)
    draw_network(OUT / "network.png", evaluator, agent.final)

    summary["seconds"] = time.monotonic() - start
    summary["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (OUT / "table.md").write_text(markdown(summary))
    write_targets(OUT, targets(summary))
    console.print(table(summary))
    console.print(f"Pictures: {OUT / 'placements.png'}, {OUT / 'network.png'}")
    console.print(f"TensorBoard: .venv/bin/tensorboard --logdir {RUN / 'agent'}")
    console.print(f"{summary['seconds']:.0f} s in all; numbers in {OUT / 'summary.json'}")
    return 0


def summarise(evaluator: MonteCarloEvaluator, rows: dict[str, tuple[Placement, int]]) -> dict[str, Any]:
    """Return every row: objective on validation at search fidelity, accuracies on test at `tuned` fidelity."""
    objective, space = Objective.of(evaluator), evaluator.space
    acc_ref = evaluator.reference_accuracy("test")
    summary: dict[str, Any] = {
        "acc_ref": acc_ref,
        "clean_accuracy": evaluator.clean_accuracy("test"),
        "task": evaluator.task.name,
        "search": f"val, bank, {evaluator.task.chips} chips x {evaluator.problem.images('val')} images",
        "report": f"test, tuned, {evaluator.task.report_chips} chips x {evaluator.problem.images('test')} images",
    }
    for name, (placement, evaluations) in rows.items():
        searched = evaluator.evaluate(placement)
        tested = evaluator.evaluate(placement, "test", "tuned")
        part, cost = space.shares(placement), space.cost(placement)
        summary[name] = {
            "placement": placement,
            "objective": objective.value(searched),
            "mean": tested.value("mean"),
            "mean_interval": tested.interval("mean"),
            "p05": tested.value("percentile", 0.05),
            "recovered": tested.value("mean") / acc_ref,
            "weights_added": part["weights"],
            "macs_added": part["macs"],
            "energy_pj": [cost.energy_pj.low, cost.energy_pj.high],
            "evaluations": evaluations,
        }
    return summary


def targets(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the demonstration promises, with what it measured."""
    share = summary["agent"]["objective"] / summary["optimum"]["objective"]
    promises = (
        ("seconds after installation", "<= 300", summary["seconds"], summary["seconds"] <= 300),
        ("peak memory in GB", "<= 2", summary["peak_memory_gb"], summary["peak_memory_gb"] <= 2),
        ("J of the agent's final placement as a share of the enumerated optimum's", ">= 0.99", share, share >= 0.99),
    )
    return [target(*promise, "make demo") for promise in promises]


LABELS = {
    "none": "no blocks",
    "affine": "affine everywhere",
    "agent": "agent, final policy",
    "agent_best": "agent, best seen",
    "greedy": "greedy",
    "knapsack": "knapsack",
    "optimum": "enumerated optimum",
    "all": "all-largest",
}


COLUMNS = ("", "placement", "J", "mean", "5 % pct", "of std", "+weights", "+MACs", "energy nJ", "evals")


def title(summary: dict[str, Any]) -> str:
    """Return what the table shows: split, chips, images, fidelity and the clean accuracies."""
    return (
        f"{summary['task']}. mean, 5 % percentile: {summary['report']}. J: {summary['search']}. "
        f"Clean accuracy: standard recipe {summary['acc_ref']:.1%}, this backbone {summary['clean_accuracy']:.1%}."
    )


def cells(summary: dict[str, Any]) -> list[list[str]]:
    """Return the table's rows as text."""
    rows = []
    for name, label in LABELS.items():
        row = summary[name]
        low, high = (value / 1e3 for value in row["energy_pj"])
        rows.append(
            [
                label,
                "".join(map(str, row["placement"])),
                f"{row['objective']:.3f}",
                f"{row['mean']:.1%}",
                f"{row['p05']:.1%}",
                f"{row['recovered']:.1%}",
                f"{row['weights_added']:.2%}",
                f"{row['macs_added']:.1%}",
                f"{low:.1f}-{high:.1f}",
                str(row["evaluations"]),
            ]
        )
    return rows


def table(summary: dict[str, Any]) -> Table:
    """Return the table that the demonstration prints."""
    shown = Table(title=title(summary), title_justify="left", padding=(0, 0), pad_edge=False)
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in ("", "placement") else "right", no_wrap=True)
    for row in cells(summary):
        shown.add_row(*row)
    return shown


def markdown(summary: dict[str, Any]) -> str:
    """Return the same table as Markdown."""
    lines = [title(summary), "", "| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    lines += ["| " + " | ".join(row) + " |" for row in cells(summary)]
    return "\n".join(lines) + "\n"


def draw_network(path: Path, evaluator: MonteCarloEvaluator, placement: Placement) -> None:
    """Save the picture of a placement as the environment renders it."""
    from cimenv.envs.render import figure

    none, placed = evaluator.evaluate(evaluator.space.empty()), evaluator.evaluate(placement)
    figure(Objective.of(evaluator), none, placed).savefig(path, dpi=110)


if __name__ == "__main__":
    try:
        with disk_faults(OUT):
            sys.exit(main())
    except CimenvError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
