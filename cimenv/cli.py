"""The command line: `cimenv` or `python -m cimenv`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cimenv.core.errors import CimenvError, ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, rich_markup_mode=None)

TaskName = Annotated[str, typer.Argument(help="a named task (see `cimenv tasks`) or a YAML file")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="dotted override such as crossbar.device.sigma=0.3")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """List the named tasks."""
    from cimenv.tasks.named import named_tasks

    found = named_tasks()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table("task", "what it is")
    for name, description in found.items():
        table.add_row(name, description)
    Console().print(table)


@app.command()
def show(task: TaskName, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show a task: its sites, what each option would add there, and every field. Trains nothing."""
    from cimenv.tasks import PlacementSpace, load_task

    loaded = load_task(task, overrides)
    space = PlacementSpace(loaded)
    if as_json:
        print(json.dumps({"key": loaded.key, "task": loaded.model_dump(mode="json")}, indent=2))
        return
    table = Table("site", "type", "weights", "MACs", "option", "+weights", "+MACs", "+energy", "allowed")
    for s, site in enumerate(space.sites):
        for o, option in enumerate(space.options.per_site[s], 1):
            first = (site.name, site.type, f"{site.weights:,}", f"{site.macs:,}") if o == 1 else ("",) * 4
            added = [f"{space.terms[s, o, k]:.2%}" for k in range(3)]
            table.add_row(*first, f"{o}: {option.label}", *added, "yes" if space.candidates[s, o] else "masked")
    console = Console()
    console.print(table)
    console.print_json(loaded.canonical())


@app.command()
def evaluate(
    task: TaskName,
    placement: Annotated[str, typer.Option(help="one option index per site, 0 = none: 0,2,0,1,0")],
    split: Annotated[str, typer.Option(help="val for selection, test for reports")] = "val",
    fidelity: Annotated[str, typer.Option(help="bank (shared blocks) or tuned (fitted for this placement)")] = "bank",
    chips: Annotated[int | None, typer.Option(help="number of chips; default the task's")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate one placement over Monte-Carlo chips; trains what is missing, once."""
    evaluator = _evaluator(task, overrides)
    found = evaluator.evaluate(_placement(placement), split, fidelity, chips)
    row = {
        "placement": list(found.placement),
        "split": split,
        "fidelity": fidelity,
        "chips": int(found.correct.shape[-1]),
        "images": found.images,
        "mean": found.value("mean"),
        "mean_interval": found.interval("mean"),
        "std": found.value("std"),
        "p05": found.value("percentile", 0.05),
        "p05_interval": found.interval("percentile", 0.05),
        "clean_accuracy": evaluator.clean_accuracy(found.split),
        "cost_shares": evaluator.space.shares(found.placement),
    }
    _show(row, as_json)


@app.command()
def search(
    task: TaskName,
    method: Annotated[str, typer.Option(help="greedy, knapsack, random or exhaustive")] = "greedy",
    evaluations: Annotated[int | None, typer.Option(help="largest number of distinct evaluations")] = None,
    max_weights: Annotated[float | None, typer.Option(help="cap on added weights, a share: 0.05")] = None,
    max_macs: Annotated[float | None, typer.Option(help="cap on added MACs, a share: 0.1")] = None,
    seed: Annotated[int, typer.Option(help="of searches that draw")] = 0,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for a placement on validation; report it on test with fresh chips and fitted blocks."""
    from cimenv.search import run_search
    from cimenv.search.place import report

    caps = [f"budget.{k}={v}" for k, v in (("weights", max_weights), ("macs", max_macs)) if v is not None]
    evaluator = _evaluator(task, [*(overrides or []), *caps])
    found = run_search(evaluator, method, evaluations, seed)
    result = report(evaluator, found)
    if not as_json:
        print(result)
        return
    row = {
        "placement": list(result.placement),
        "blocks": dict(result.blocks),
        "method": method,
        "evaluations": found.evaluations,
        "objective": found.objective,
        "test_mean": result.tuned.value("mean"),
        "test_mean_interval": result.tuned.interval("mean"),
        "test_p05": result.tuned.value("percentile", 0.05),
        "test_none": result.none.value("mean"),
        "clean_accuracy": result.clean_accuracy,
        "cost_shares": dict(result.shares),
    }
    _show(row, as_json)


def _evaluator(task: str, overrides: list[str] | None) -> Any:
    from cimenv.core.progress import bar
    from cimenv.tasks import MonteCarloEvaluator, load_task

    return MonteCarloEvaluator(load_task(task, overrides), progress=bar)


def _placement(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"placement: got '{text}'; write option indices with commas, such as 0,2,0,1,0.") from None


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row, indent=2))
        return
    table = Table(show_header=False)
    for name, value in row.items():
        table.add_row(name, _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_text(part) for part in value)
    return "too few chips" if value is None else str(value)


def main() -> None:
    """Run; an error that cimenv raises on purpose is one sentence on stderr and exit code 2."""
    try:
        app()
    except CimenvError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
