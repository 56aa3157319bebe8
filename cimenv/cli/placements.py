"""`cimenv search` and `render`: the best placement, a picture of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cimenv.cli.arguments import (
    AsJson,
    Chips,
    Device,
    FidelityName,
    Overrides,
    PlacementText,
    Scheduler,
    SplitName,
    TaskName,
    check_picture,
    check_writable,
    cluster_at,
    evaluator_of,
    parse_placement,
)
from cimenv.cli.output import print_row, save_picture

if TYPE_CHECKING:
    from cimenv.data.splits import Split
    from cimenv.search import SearchResult
    from cimenv.tasks import MonteCarloEvaluator

METHOD_HELP = (
    "greedy, swap, backward, knapsack; transfer, which begins with what the tables of other tasks teach; "
    "surrogate, annealing, genetic, tpe, nsga2, random; lstm_controller, one_step; racing, ladder; exhaustive; "
    "rules: uniform, first, last, error, error_per_cost."
)


def search(
    task: TaskName,
    method: Annotated[str, typer.Option(metavar="NAME", help=METHOD_HELP, show_default=True)] = "greedy",
    evaluations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Stop after N distinct evaluations; default: none, or 150 where a method does not end by itself.",
        ),
    ] = None,
    max_weights: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Cap on added weights: 0.05 is 5 % of the backbone's.")
    ] = None,
    max_macs: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Cap on added multiply-accumulates: 0.1 is 10 %.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of searches that draw.")] = 0,
    pareto: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw accuracy against cost of all placements seen (png, pdf or svg)."),
    ] = None,
    steps: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write every distinct evaluation, in order, with its cost.")
    ] = None,
    scheduler: Scheduler = None,
    device: Device = "cpu",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for the best placement of a task.

    Searches on validation images and chips with shared blocks; reports on test
    images and fresh chips, with blocks fitted for the placement found.

    \b
    Example:
      cimenv search toy-4site --max-weights 0.05 --pareto front.png
    """
    from cimenv.search import run_search
    from cimenv.search.report import report
    from cimenv.search.steps import write_steps

    if steps is not None:
        check_writable(steps)
    if pareto is not None:
        check_picture(pareto)
    caps = [f"budget.{k}={v}" for k, v in (("weights", max_weights), ("macs", max_macs)) if v is not None]
    evaluator = evaluator_of(task, [*(overrides or []), *caps], device)
    with cluster_at(scheduler) as cluster:
        evaluator.executor = cluster
        found = run_search(evaluator, method, evaluations, seed)
    evaluator.executor = None
    if steps is not None:
        write_steps(steps, found, evaluator.space)
    if pareto is not None:
        save_picture(_pareto(evaluator, found), pareto)
    result = report(evaluator, found)
    if not as_json:
        print(result)
        if pareto is not None:
            print(f"accuracy against cost of the {len(found.steps)} placements seen: {pareto}")
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
        "pareto": None if pareto is None else str(pareto),
    }
    print_row(row, as_json)


def render(
    task: TaskName,
    placement: PlacementText,
    out: Annotated[Path, typer.Option(metavar="PNG", help="The picture to write (png, pdf or svg).")],
    split: SplitName = "val",
    fidelity: FidelityName = "bank",
    chips: Chips = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Draw a placement: errors along the layers, accuracy, cost.

    \b
    Example:
      cimenv render toy-4site --placement 1,0,2,0 --out placement.png
    """
    from cimenv.envs.render import figure
    from cimenv.tasks import Objective

    check_picture(out)
    evaluator, part = evaluator_of(task, overrides), cast("Split", split)
    chosen = parse_placement(placement, evaluator.space.options)
    placed = evaluator.evaluate(chosen, part, fidelity, chips)
    none = evaluator.evaluate(evaluator.space.empty(), part, chips=chips)
    objective = Objective.of(evaluator, part, chips)
    save_picture(figure(objective, none, placed), out)
    row = {
        "placement": list(placed.placement),
        "split": split,
        "fidelity": fidelity,
        "accuracy": objective.accuracy(placed),
        "accuracy_without_blocks": objective.acc_none,
        "reference_accuracy": objective.acc_ref,
        "objective": objective.value(placed),
        "cost_shares": evaluator.space.shares(placed.placement),
        "out": str(out),
    }
    print_row(row, as_json)


def _pareto(evaluator: MonteCarloEvaluator, found: SearchResult) -> Any:
    """Return the scatter of the placements that a search saw."""
    import numpy as np

    from cimenv.studies.pareto import pareto_figure

    task, space = evaluator.task, evaluator.space
    points = {step.placement: (space.scalar_cost(step.placement), step.accuracy) for step in found.steps}
    labels = {
        "mean": "mean accuracy over chips",
        "mean_minus_std": "mean - standard deviation of the accuracy over chips",
        "percentile": f"{task.percentile:.3g}-quantile of the accuracy over chips",
        "worst_case": f"accuracy under the worst deviation found, th_g = {task.worst_case.bound:g}",
    }
    chips, images = found.evaluation.correct.shape[-1], found.evaluation.images
    costs, values = np.array(list(points.values())).T
    return pareto_figure(
        costs,
        values,
        {
            "no blocks": points[space.empty()],
            f"best: {' '.join(map(str, found.best))}": points[found.best],
        },
        cost_label=f"scalar cost ({' + '.join(f'{w:g} {term}' for term, w in task.cost_weights.items())}, shares)",
        value_label=labels[task.metric],
        title=f"{task.name}, {found.method} search: val, {chips} chips x {images} images, bank blocks",
    )
