"""Train everything of the default task afresh, let an agent place blocks, compare: `python -m experiments.demo`.

Leaves summary.json, table.md, two pictures and the configuration in results/demo/, the TensorBoard folder in
runs/demo/.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time

from rich.console import Console

from agents.config import load_config
from agents.environment import task_of
from agents.train import train
from cimenv.core.errors import CimenvError
from cimenv.core.progress import bar
from cimenv.core.store import Store
from cimenv.core.writing import disk_faults
from cimenv.core.yaml_text import written
from cimenv.tasks import MonteCarloEvaluator
from experiments.demo.figures import accuracy_against_weights, draw_network
from experiments.demo.measure import placements, summarise
from experiments.demo.report import shown, write_results
from experiments.lab.folders import ROOT, results_of, runs_of

OUT, RUN = results_of("demo"), runs_of("demo")
AGENT = ROOT / "configs/agents/maskable_ppo.yaml"


def main() -> None:
    """Run the demonstration."""
    start = time.monotonic()
    console = Console() if sys.stdout.isatty() else Console(width=120)
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    config = load_config(AGENT, ["name=demo"])
    task = task_of(config)
    (OUT / "config.yaml").write_text(
        written({"agent": config.model_dump(mode="json"), "task": task.model_dump(mode="json")})
    )

    console.print(f"[bold]{task.name}[/]: {task.description}")
    console.print("Training backbone and blocks afresh, then an agent, three searches and all placements.")
    evaluator = MonteCarloEvaluator(task, Store(RUN / "store"), progress=bar)
    agent = train(config, RUN / "agent", evaluator)
    rows = placements(evaluator, agent)
    summary = summarise(evaluator, rows)
    tested = {name: evaluator.evaluate(placement, "test", "tuned") for name, (placement, _) in rows.items()}
    accuracy_against_weights(OUT / "placements.png", evaluator, tested)
    draw_network(OUT / "network.png", evaluator, agent.final)

    summary["seconds"] = time.monotonic() - start
    summary["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    write_results(summary, OUT)
    console.print(shown(summary))
    console.print(f"Pictures: {OUT / 'placements.png'}, {OUT / 'network.png'}")
    console.print(f"TensorBoard: .venv/bin/tensorboard --logdir {RUN / 'agent'}")
    console.print(f"{summary['seconds']:.0f} s in all; numbers in {OUT / 'summary.json'}")


if __name__ == "__main__":
    try:
        with disk_faults(OUT):
            main()
    except CimenvError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
