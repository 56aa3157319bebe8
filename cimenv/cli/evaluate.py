"""`cimenv evaluate`: a network, or one placement, over chips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from cimenv.cli.arguments import (
    AsJson,
    Chips,
    Device,
    FidelityName,
    Overrides,
    evaluator_of,
    known_task,
    parse_placement,
)
from cimenv.cli.output import print_json, print_note, print_row
from cimenv.cli.own import Crossbar, DataName, OwnNetwork, Weights
from cimenv.core.errors import ConfigError
from cimenv.core.progress import bar

if TYPE_CHECKING:
    from cimenv.data.splits import Split
    from cimenv.tasks import MonteCarloEvaluator
    from cimenv.tasks.requests import Fidelity


def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", callback=known_task, help="A task's name or YAML file, or a network: mine.py:network."
        ),
    ],
    placement: Annotated[
        str | None,
        typer.Option(metavar="O,O,...", help="One option index per site, 0 = none; default: the bare network."),
    ] = None,
    data: DataName = None,
    weights: Weights = None,
    crossbar: Crossbar = None,
    split: Annotated[
        str | None, typer.Option(metavar="val|test", help="Default: val with a placement, test without.")
    ] = None,
    fidelity: FidelityName = "bank",
    chips: Chips = None,
    device: Device = "cpu",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a network, or one placement, over Monte-Carlo chips.

    Without a placement no block is fitted: what the crossbar leaves of the
    network, site by site. Trains what is missing, once. Intervals are of 95 %;
    p05 is the accuracy that 5 % of the chips miss; costs are shares of the
    backbone's. On an analog crossbar, clipped inputs and saturated outputs are the
    shares of a layer's values that lie beyond its input range and at the bound of
    its ADC, on one chip without blocks: above a few percent, raise input_quantile
    or adc_bound.

    \b
    Example:
      cimenv evaluate toy-4site
      cimenv evaluate toy-4site --placement 1,0,2,0 --split test --chips 100
      cimenv evaluate mine.py:network --data mine.py:data --crossbar rasch2023
    """
    own = OwnNetwork(task, data, weights, crossbar, overrides)
    part = cast("Split", split or ("test" if placement is None else "val"))
    if placement is None:
        _evaluate_bare(own, part, fidelity, chips, device, as_json)
        return
    evaluator = own.evaluator(device, blocks=True) if own.given else evaluator_of(task, overrides, device)
    chosen = parse_placement(placement, evaluator.space.options)
    evaluation = evaluator.evaluate(chosen, part, cast("Fidelity", fidelity), chips)
    shares = evaluator.space.shares(evaluation.placement)
    row = {
        "placement": list(evaluation.placement),
        "split": part,
        "fidelity": fidelity,
        "chips": evaluation.chips,
        "images": evaluation.images,
        "mean": evaluation.value("mean"),
        "mean_interval": evaluation.interval("mean"),
        "std": evaluation.value("std"),
        "p05": evaluation.value("percentile", 0.05),
        "p05_interval": evaluation.interval("percentile", 0.05),
        "clean_accuracy": evaluator.clean_accuracy(part),
        "cost_shares": shares,
        **_converters(evaluator, part),
    }
    print_row(row, as_json)
    print_note(shares, as_json)


def _evaluate_bare(own: OwnNetwork, split: Split, fidelity: str, chips: int | None, device: str, as_json: bool) -> None:
    """Evaluate a network without blocks."""
    from cimenv.tasks import MonteCarloEvaluator, load_task
    from cimenv.tasks.bare import evaluated, without_blocks

    if fidelity != "bank":
        raise ConfigError(
            f"fidelity: got '{fidelity}', but there is no block to tune; leave it out, or give --placement."
        )
    if own.given:
        evaluator = own.evaluator(device, blocks=False)
    else:
        task = without_blocks(load_task(own.name, own.overrides))
        evaluator = MonteCarloEvaluator(task, device=device, progress=bar)
    evaluation = evaluated(evaluator, split, chips)
    if not as_json:
        print(evaluation)
        return
    row = {
        "network": evaluation.name,
        "split": split,
        "chips": len(evaluation.accuracy),
        "images": evaluation.evaluation.images,
        "mean": evaluation.mean,
        "mean_interval": evaluation.interval,
        "std": evaluation.evaluation.value("std"),
        "p05": evaluation.evaluation.value("percentile", 0.05),
        "p05_interval": evaluation.evaluation.interval("percentile", 0.05),
        "times_s": list(evaluation.times_s),
        "accuracy": [chips.tolist() for chips in evaluation.accuracy_at.values()],
        "clean_accuracy": evaluation.clean_accuracy,
        "site_errors": evaluation.site_errors,
        "clipped_inputs": {name: cut.clipped_inputs for name, cut in evaluation.saturation.items()},
        "saturated_outputs": {name: cut.saturated_outputs for name, cut in evaluation.saturation.items()},
    }
    print_json(row)


def _converters(evaluator: MonteCarloEvaluator, split: Split) -> dict[str, dict[str, float]]:
    """Return what an analog crossbar's converters cut off by site, on one chip without blocks; else nothing."""
    if not evaluator.problem.network.input_ranges:  # no layer is analog
        return {}
    shares = evaluator.problem.saturation(split)
    return {
        "clipped_inputs": {name: share.clipped_inputs for name, share in shares.items()},
        "saturated_outputs": {name: share.saturated_outputs for name, share in shares.items()},
    }
