"""`cimenv sensitivity`: how much of one non-ideality a trained network bears."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cimenv.cli.arguments import AsJson, Overrides, TaskName, finite
from cimenv.cli.output import print_json, print_tables, save_picture, table_of


def sensitivity(
    task: TaskName,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where rows and the figure go.")] = Path("sensitivity"),
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Some of those above, with commas between; default: all.")
    ] = None,
    chips: Annotated[int, typer.Option(metavar="N", min=2, max=100_000, help="Test chips of a point.")] = 10,
    images: Annotated[int, typer.Option(metavar="N", min=1, max=1_000_000, help="Test images of a chip.")] = 1_000,
    error: Annotated[
        float, typer.Option(metavar="E", min=0.001, max=1, callback=finite, help="Error to compare at.")
    ] = 0.1,
    share: Annotated[float, typer.Option(metavar="A", min=0.01, max=1, callback=finite, help="A* to be kept.")] = 0.99,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Raise one non-ideality at a time until the network breaks.

    The task's trained network runs on crossbars with a single non-ideality.
    A threshold is the strength at which the normalised accuracy
    A* = 1 - (e - e_digital) / (e_chance - e_digital) falls below 99 %; its MVM
    error is that of a standard 512 x 512 matrix, so that all can be compared.
    A second row is A* where that matrix has an error of 10 %. Rows are added
    to FOLDER/sensitivity.csv, also of several tasks; what is there is not
    measured again.

    Non-idealities: programming_noise, device_read_noise, weight_noise,
    stuck_at_zero, stuck_at_max, input_noise, output_noise, read_noise,
    ir_drop, s_shape, voltage_offset, dac_step, adc_step.

    \b
    Example:
      cimenv sensitivity lenet5-fashion-mini --only output_noise,weight_noise
    """
    from cimenv.analysis.non_idealities import NON_IDEALITIES, checked_names
    from cimenv.analysis.sensitivity import Sensitivity, bare_task
    from cimenv.analysis.sensitivity_file import figure, run
    from cimenv.core.progress import bar
    from cimenv.tasks import MonteCarloEvaluator, load_task

    names = checked_names(only.split(",") if only else NON_IDEALITIES)
    plain = bare_task(load_task(task, overrides), images)
    evaluator = MonteCarloEvaluator(plain, progress=bar)

    def measured() -> Sensitivity:
        return Sensitivity(evaluator.problem, chips, evaluator.compute.workers)

    rows = run(measured, out / "sensitivity.csv", names, error=error, share=share, progress=bar)
    save_picture(figure(rows), out / "sensitivity.png")
    own = [row for row in rows if row.weights == evaluator.problem.weights_digest[:12] and row.non_ideality in names]
    if as_json:
        print_json([asdict(row) for row in own])
        return
    columns = ("strength", "mvm error", "accuracy", "A*")
    table = table_of("non-ideality", "row", *columns, right=columns)
    for row in own:
        numbers = (f"{row.strength:.4g}", f"{row.mvm_error:.1%}", f"{row.accuracy:.4f}", f"{row.normalised:.4f}")
        table.add_row(row.non_ideality, row.kind.replace("_", " "), *numbers)
    print_tables(table)
