"""`cimenv enumerate` and `cimenv validate`: a file of every placement, and a check of its rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cimenv.cli.arguments import (
    AsJson,
    Chips,
    Device,
    Overrides,
    Scheduler,
    SplitName,
    TaskName,
    Threads,
    TlsCa,
    TlsCert,
    TlsKey,
    cluster_at,
)
from cimenv.cli.output import as_text, print_json, print_row, print_tables, table_of

if TYPE_CHECKING:
    from cimenv.analysis.validation import Difference, Validation
    from cimenv.tasks.files.enumeration_file import Enumeration
    from cimenv.tasks.files.header import EnumeratedSplit

SHOWN = 20  # differences in the table; JSON has all


def enumerate_task(
    task: TaskName,
    out: Annotated[Path, typer.Option(metavar="CSV", help="The file to write, or to go on with.")],
    split: SplitName = "val",
    chips: Chips = None,
    threads: Threads = None,
    scheduler: Scheduler = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    device: Device = "cpu",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate every placement of a task into a CSV file.

    Stopped or killed, the same command goes on where it was; the finished file
    is that of an uninterrupted run, byte for byte. After a first line that fixes
    the problem (# and JSON), each row has the placement, its objective, mean, std
    and 5 % percentile of the accuracy, its costs as shares of the backbone's, the
    correct images of every chip, and the feature errors of every site. With pandas,
    which is yours to install, read it by pandas.read_csv(CSV, comment="#").
    Finished and compressed by xz, it is a table for CiMCompensationTabular-v0.

    \b
    Example:
      cimenv enumerate toy-4site --out toy.csv
    """
    from cimenv.analysis.enumeration import enumerate_placements
    from cimenv.core.progress import bar
    from cimenv.tasks import load_task
    from cimenv.tasks.requests import Compute

    loaded, part = load_task(task, overrides), cast("EnumeratedSplit", split)
    try:
        with cluster_at(scheduler, tls_ca, tls_cert, tls_key) as cluster:
            enumeration = enumerate_placements(
                loaded, out, split=part, chips=chips, compute=Compute(threads, device, bar), cluster=cluster
            )
    except KeyboardInterrupt:
        print(f"Stopped; the same command goes on with {out}.", file=sys.stderr)
        raise typer.Exit(130) from None
    if not as_json and not enumeration.new:
        print(f"{out} is complete: nothing was evaluated.")
    print_row(_summary(enumeration), as_json)


def validate_file(
    file: Annotated[Path, typer.Argument(metavar="CSV", help="What `cimenv enumerate` wrote.")],
    rows: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=1_000_000, help="Rows to evaluate again; the best is always among them."),
    ] = 16,
    every: Annotated[bool, typer.Option("--all", help="Evaluate every row again.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the draw of rows.")] = 0,
    threads: Threads = None,
    device: Device = "cpu",
    trust: Annotated[bool, typer.Option("--trust", help="Import what of yours it names, such as data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check an enumeration by evaluating rows again.

    Evaluates the rows afresh, reading no stored evaluation. A chip's correct
    images may differ by 0.1 % of the images, on a GPU by two; a file made on a
    GPU is best checked there. In every row of the file, objective,
    mean and all other columns must follow from the counts. Exit code 0: nothing
    differs; 1: something does, or the weights here are not those of the file.

    \b
    Example:
      cimenv validate toy.csv --rows 32 --seed 1
    """
    from cimenv.analysis.validation import validate
    from cimenv.core.progress import bar
    from cimenv.tasks.requests import Compute

    drawn = None if every else rows
    validation = validate(file, rows=drawn, seed=seed, compute=Compute(threads, device, bar), trust=trust)
    if as_json:
        print_json(_report(validation))
    else:
        _print_validation(validation)
    if not validation.valid:
        raise typer.Exit(1)


def _summary(enumeration: Enumeration) -> dict[str, Any]:
    from cimenv.tasks.space import describe

    header, best = enumeration.header, enumeration.best
    return {
        "file": str(enumeration.path),
        "placements": len(enumeration.rows),
        "new": enumeration.new,
        "split": header.split,
        "fidelity": header.fidelity,
        "chips": header.chips,
        "images": header.images,
        "optimum": list(best.placement),
        "blocks": dict(describe(best.placement, enumeration.space.options)),
        **{name: best.numbers[name] for name in ("objective", "mean", "std", "p05")},
        "mean_without_blocks": enumeration.rows[0].numbers["mean"],
        "clean_accuracy": header.clean_accuracy,
        "reference_accuracy": header.reference_accuracy,
        "cost": best.numbers["cost"],
        "cost_shares": enumeration.space.shares(best.placement),
        "weights_digest": header.weights_digest,
    }


def _report(validation: Validation) -> dict[str, Any]:
    header = validation.enumeration.header
    return {
        "file": str(validation.enumeration.path),
        "valid": validation.valid,
        "rows": len(validation.enumeration.rows),
        "finished": validation.enumeration.finished,
        "checked": [list(validation.enumeration.rows[k].placement) for k in validation.checked],
        "seed": validation.seed,
        "weights_digest": {
            "file": header.weights_digest,
            "here": validation.weights_digest,
            "equal": validation.same_weights,
        },
        "largest_gap_images": validation.largest_gap,
        "allowed_gap_images": validation.allowed_gap,
        "differences": [_difference(difference) for difference in validation.differences],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    placement = None if difference.placement is None else list(difference.placement)
    return {
        "line": difference.line,
        "placement": placement,
        "column": difference.column,
        "file": difference.there,
        "here": difference.here,
    }


def _print_validation(validation: Validation) -> None:
    header, rows = validation.enumeration.header, validation.enumeration.rows
    weights = (
        "the file's" if validation.same_weights else "others: trained ones differ between machines and torch versions"
    )
    drawn = f"{len(validation.checked)}, drawn with seed {validation.seed}, on {header.chips} {header.split} chips"
    largest, allowed = validation.largest_gap, validation.allowed_gap
    gap = f"differ by at most {largest} of {header.images} on a chip; allowed are {allowed:g}"
    row = {
        "file": f"{validation.enumeration.path}, {header.task.name}",
        "rows": f"{len(rows)}" if validation.enumeration.finished else f"{len(rows)}, unfinished",
        "evaluated again": drawn,
        "correct images": gap,
        "weights": weights,
    }
    print_row(row, as_json=False)
    if validation.valid:
        print("Nothing differs.")
        return
    table = table_of("line", "placement", "column", "file", "here", right=("line",))
    for difference in validation.differences[:SHOWN]:
        placement = "header" if difference.placement is None else " ".join(map(str, difference.placement))
        values = (_exact(difference.there), _exact(difference.here))
        table.add_row(str(difference.line), placement, difference.column, *values)
    print_tables(table)
    more = len(validation.differences) - SHOWN
    print(f"{len(validation.differences)} differences" + (f", {more} of them not shown." if more > 0 else "."))


def _exact(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else as_text(value)
