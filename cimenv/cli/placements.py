"""`cimenv place`, `search` and `render`: the best placement of a network or of a task, a picture of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    TlsCa,
    TlsCert,
    TlsKey,
    check_picture,
    check_writable,
    cluster_at,
    evaluator_of,
    parse_placement,
)
from cimenv.cli.caps import capped
from cimenv.cli.output import print_json, print_note, print_row, save_picture
from cimenv.cli.own import Crossbar, DataName, OwnNetwork, Weights
from cimenv.search.methods import METHODS

if TYPE_CHECKING:
    from cimenv.data.splits import Split
    from cimenv.search import PlacementResult, SearchResult
    from cimenv.tasks import MonteCarloEvaluator
    from cimenv.tasks.requests import Fidelity

METHOD_HELP = f"One of {', '.join(METHODS)}; or a search of your own, mine.py:Mine."

Method = Annotated[str, typer.Option(metavar="NAME", help=METHOD_HELP, show_default=True)]
Evaluations = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Stop after N distinct evaluations; default: none, or 150 where a method does not end by itself.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of searches that draw.")]
Pareto = Annotated[
    Path | None,
    typer.Option(metavar="PNG", help="Draw accuracy against cost of all placements seen (png, pdf or svg)."),
]
Steps = Annotated[
    Path | None, typer.Option(metavar="CSV", help="Write every distinct evaluation, in order, with its cost.")
]
Fallback = Annotated[
    bool,
    typer.Option(
        "--fallback/--no-fallback", help="Return no blocks, or affine everywhere, where held-out chips prefer them."
    ),
]


@capped
def search(
    task: TaskName,
    method: Method = "greedy",
    evaluations: Evaluations = None,
    caps: Sequence[str] = (),
    seed: Seed = 0,
    fallback: Fallback = True,
    pareto: Pareto = None,
    steps: Steps = None,
    scheduler: Scheduler = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    device: Device = "cpu",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for the best placement of a task.

    Searches on validation images and chips with shared blocks, fits the blocks of
    what is found, and compares that with no blocks and with affine ones everywhere
    on validation chips and images that the search did not see. Reports all three
    on test images and fresh chips.

    \b
    Example:
      cimenv search toy-4site --max-weights 0.05 --pareto front.png
    """
    _check_files(steps, pareto)
    evaluator, security = evaluator_of(task, [*(overrides or []), *caps], device), (tls_ca, tls_cert, tls_key)
    _find(evaluator, _Wanted(method, evaluations, seed, fallback, pareto, steps, scheduler, security), as_json)


@capped
def place(
    network: Annotated[
        str, typer.Argument(metavar="FILE:NAME", help="mine.py:network or package.module:network, a module or factory.")
    ],
    data: DataName = None,
    weights: Weights = None,
    crossbar: Crossbar = None,
    method: Method = "greedy",
    evaluations: Evaluations = None,
    caps: Sequence[str] = (),
    seed: Seed = 0,
    chips: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=100_000, help="Validation chips; default: 25.")
    ] = None,
    fallback: Fallback = True,
    pareto: Pareto = None,
    steps: Steps = None,
    scheduler: Scheduler = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    device: Device = "cpu",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Find where to put blocks in a trained network of your own.

    The file is imported, so name only one that you trust. Without --weights the
    network comes trained. The rest is as in `cimenv search`; --set changes other
    fields, such as images, report_chips, options or bank.steps. After a kill, the
    same command goes on from what was trained and evaluated.

    \b
    Example:
      cimenv place mine.py:network --data mine.py:data \\
        --weights mine.safetensors --max-weights 5% --crossbar rasch2023
    """
    own = OwnNetwork(network, data, weights, crossbar, overrides)
    own.check()
    _check_files(steps, pareto)
    counted = [] if chips is None else [f"chips={chips}"]
    own = replace(own, overrides=[*(overrides or []), *caps, *counted])
    evaluator, security = own.evaluator(device, blocks=True), (tls_ca, tls_cert, tls_key)
    _find(evaluator, _Wanted(method, evaluations, seed, fallback, pareto, steps, scheduler, security), as_json)


@dataclass(frozen=True)
class _Wanted:
    method: str
    evaluations: int | None
    seed: int
    fallback: bool
    pareto: Path | None
    steps: Path | None
    scheduler: str | None
    tls: tuple[Path | None, Path | None, Path | None]


def _check_files(steps: Path | None, pareto: Path | None) -> None:
    if steps is not None:
        check_writable(steps)
    if pareto is not None:
        check_picture(pareto)


def _find(evaluator: MonteCarloEvaluator, wanted: _Wanted, as_json: bool) -> None:
    """Search, write and draw what was seen, compare and report."""
    from cimenv.search import run_search
    from cimenv.search.report import report
    from cimenv.search.steps import write_steps

    with cluster_at(wanted.scheduler, *wanted.tls) as cluster:
        evaluator.executor = cluster
        search = run_search(evaluator, wanted.method, wanted.evaluations, wanted.seed)
    evaluator.executor = None
    if wanted.steps is not None:
        write_steps(wanted.steps, search, evaluator.space)
    if wanted.pareto is not None:
        save_picture(_pareto(evaluator, search), wanted.pareto)
    result = report(evaluator, search, wanted.fallback)
    if as_json:
        print_json(_row(result, wanted))
        return
    print(result)
    if wanted.pareto is not None:
        print(f"accuracy against cost of the {len(search.steps)} placements seen: {wanted.pareto}")


def _row(result: PlacementResult, wanted: _Wanted) -> dict[str, Any]:
    compared, search = result.comparison, result.search
    return {
        "placement": list(result.placement),
        "blocks": dict(result.blocks),
        "found": list(search.best),
        "fell_back": result.fell_back,
        "method": wanted.method,
        "evaluations": search.evaluations,
        "notice": search.notice,
        "objective": search.objective,
        "held_out": {
            "chips": len(compared.found.chip_objectives),
            "images": compared.found.evaluation.images,
            "fresh_images": compared.fresh_images,
            "objective": compared.found.objective,
            "none": compared.none.objective,
            "affine": None if compared.affine is None else compared.affine.objective,
        },
        "test_mean": result.tuned.value("mean"),
        "test_mean_interval": result.tuned.interval("mean"),
        "test_p05": result.tuned.value("percentile", 0.05),
        "test_none": result.none.value("mean"),
        "test_affine": None if result.affine is None else result.affine.value("mean"),
        "clean_accuracy": result.clean_accuracy,
        "cost_shares": dict(result.shares),
        "pareto": None if wanted.pareto is None else str(wanted.pareto),
    }


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
    placed = evaluator.evaluate(chosen, part, cast("Fidelity", fidelity), chips)
    none = evaluator.evaluate(evaluator.space.empty(), part, chips=chips)
    objective = Objective.of(evaluator, part, chips)
    save_picture(figure(objective, none, placed), out)
    shares = evaluator.space.shares(placed.placement)
    row = {
        "placement": list(placed.placement),
        "split": split,
        "fidelity": fidelity,
        "accuracy": objective.accuracy(placed),
        "accuracy_without_blocks": objective.acc_none,
        "reference_accuracy": objective.acc_ref,
        "objective": objective.value(placed),
        "cost_shares": shares,
        "out": str(out),
    }
    print_row(row, as_json)
    print_note(shares, as_json)


def _pareto(evaluator: MonteCarloEvaluator, search: SearchResult) -> Any:
    """Return the scatter of the placements that a search saw."""
    import numpy as np

    from cimenv.analysis.pareto import pareto_figure

    task, space = evaluator.task, evaluator.space
    points = {step.placement: (space.scalar_cost(step.placement), step.accuracy) for step in search.steps}
    labels = {
        "mean": "mean accuracy over chips",
        "mean_minus_std": "mean - standard deviation of the accuracy over chips",
        "percentile": f"{task.percentile:.3g}-quantile of the accuracy over chips",
        "worst_case": f"accuracy under the worst deviation found, th_g = {task.worst_case.bound:g}",
    }
    chips, images = search.evaluation.chips, search.evaluation.images
    costs, values = np.array(list(points.values())).T
    return pareto_figure(
        costs,
        values,
        {
            "no blocks": points[space.empty()],
            f"best: {' '.join(map(str, search.best))}": points[search.best],
        },
        cost_label=f"scalar cost ({' + '.join(f'{w:g} {term}' for term, w in task.cost_weights.items())}, shares)",
        value_label=labels[task.statistic],
        title=f"{task.name}, {search.method} search: val, {chips} chips x {images} images, bank blocks",
    )
