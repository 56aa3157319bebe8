"""`cimenv attack`: the worst chip within th_g."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cimenv.cli.arguments import (
    AsJson,
    FidelityName,
    Overrides,
    SplitName,
    TaskName,
    check_picture,
    evaluator_of,
    parse_placement,
)
from cimenv.cli.output import print_row, save_picture

if TYPE_CHECKING:
    from cimenv.data.splits import Split
    from cimenv.tasks.requests import Fidelity


def attack(
    task: TaskName,
    placement: Annotated[
        str | None, typer.Option(metavar="O,O,...", help="One option index per site; default: no blocks.")
    ] = None,
    bound: Annotated[
        float | None, typer.Option(metavar="TH", help="th_g: largest |dW| / max|W| of a layer; default: the task's.")
    ] = None,
    split: SplitName = "val",
    fidelity: FidelityName = "bank",
    quick: Annotated[bool, typer.Option("--quick", help="Three short attacks on 500 images, as in searches.")] = False,
    curve: Annotated[Path | None, typer.Option(metavar="CSV", help="Write accuracy against passes.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw that curve (png, pdf or svg).")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search the worst chip within a bound.

    A chip deviates by |dW| <= th_g * max|W| in every layer; blocks and biases stay
    exact. The result is the smallest accuracy that any member of an ensemble of
    attacks finds: a stronger attack may find less.

    \b
    Example:
      cimenv attack toy-4site --placement 1,0,2,0 --bound 0.02 --out curve.png
    """
    from cimenv.analysis.attack_strength import curve_figure, write_curve
    from cimenv.tasks.damage import attacked

    if out is not None:
        check_picture(out)
    changes = [f"worst_case.bound={bound}"] if bound is not None else []
    evaluator = evaluator_of(task, [*(overrides or []), *changes])
    space, config = evaluator.space, evaluator.task.worst_case
    checked = parse_placement(placement, space.options) if placement is not None else space.empty()
    chosen = config.quick() if quick else config
    (request,) = evaluator.requests([checked], cast("Split", split), cast("Fidelity", fidelity))
    starts = None if quick or split == "test" else ()  # on validation they are what the ensemble finds without blocks
    damage = attacked(evaluator.problem, request, chosen, evaluator.compute, starts)
    clean = damage.target.accuracy(damage.target.zero())
    if curve is not None:
        write_curve(curve, damage.curve)
    if out is not None:
        title = f"{evaluator.task.name} {checked}: th_g = {config.bound:g}, {damage.images} {split} images"
        save_picture(curve_figure(damage.curve, clean, title), out)
    shares = dict(zip((site.name for site in space.sites), damage.target.site_shares(damage.deviation), strict=True))
    row = {
        "placement": list(checked),
        "split": split,
        "fidelity": fidelity,
        "bound": config.bound,
        "images": damage.images,
        "clean_accuracy": clean,
        "worst_accuracy": damage.accuracy,
        "found_by": damage.member,
        "members": dict(damage.members),
        "damage_shares": shares,
    }
    print_row(row, as_json)
