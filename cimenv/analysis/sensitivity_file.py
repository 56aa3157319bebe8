"""Sensitivities in a CSV file to which runs add rows, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cimenv.analysis.non_idealities import NON_IDEALITIES
from cimenv.analysis.sensitivity import Row, Sensitivity
from cimenv.core import checked_rows
from cimenv.core.checked_rows import appending
from cimenv.core.errors import ConfigError
from cimenv.core.inert import in_figure
from cimenv.core.progress import Progress, silent
from cimenv.core.writing import only_process, writing

COLUMNS = tuple(field.name for field in fields(Row))


def run(
    sensitivity: Sensitivity | Callable[[], Sensitivity],
    path: Path,
    names: tuple[str, ...] = tuple(NON_IDEALITIES),
    *,
    error: float = 0.1,
    share: float = 0.99,
    progress: Progress = silent,
) -> list[Row]:
    """Measure what `path` does not hold yet, and return all rows; a row is written as soon as it is known.

    Args:
        sensitivity: of the network, or what makes it, called when the file is known to be this process's own.
        path: the CSV file; a lock beside it keeps a second process away.
        names: non-idealities.
        error: of the standard matrix, to compare at.
        share: A* to be kept.
        progress: opens a bar.

    Raises:
        ConfigError: the file is not one of this analysis, was made with other chips or images, cannot be written, or
            another process measures into it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    taken = f"Another process measures into {path}; wait until it has finished, or give another folder."
    with only_process(path.with_name(f".{path.name}.lock"), taken):
        known = read_rows(path) if path.exists() else []
        return _filled(sensitivity, path, known, names, {"threshold": share, "equal_error": error}, progress)


def _filled(
    sensitivity: Sensitivity | Callable[[], Sensitivity],
    path: Path,
    known: list[Row],
    names: tuple[str, ...],
    asked: Mapping[str, float],
    progress: Progress,
) -> list[Row]:
    sensitivity = sensitivity if isinstance(sensitivity, Sensitivity) else sensitivity()
    for row in known:
        if (row.chips, row.images) != (sensitivity.chips, len(sensitivity.images[1])):
            raise ConfigError(f"{path} holds rows of {row.chips} chips x {row.images} images; give another file.")
    weights = sensitivity.problem.weights_digest[:12]
    done = {(row.kind, row.non_ideality, row.wanted) for row in known if row.weights == weights}
    wanted = [(k, name) for name in names for k in asked if (k, name, asked[k]) not in done]
    append = appending(path, COLUMNS)
    with progress("measuring non-idealities", len(wanted)) as advance:
        for kind, name in wanted:
            measure = sensitivity.threshold if kind == "threshold" else sensitivity.at_error
            row = measure(name, asked[kind])
            append(list(asdict(row).values()))
            known.append(row)
            advance()
    return known


def read_rows(path: Path) -> list[Row]:
    """Read what `run` wrote; a last line that a killed process left unfinished is no row.

    Raises:
        ConfigError: it is not one of these files, or a row is not as it was written.
    """
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Row)}
    try:
        lines = checked_rows.read_rows(path, COLUMNS)
        return [Row(**{name: kind(line[name]) for name, kind in kinds.items()}) for line in lines]
    except ConfigError:
        raise
    except (OSError, ValueError):
        raise ConfigError(f"{path} is no table of sensitivities; give another file or delete it.") from None


def figure(rows: list[Row]) -> Any:
    """Return a matplotlib figure: error of the standard matrix at the threshold, and A* at equal error, by task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row.task for row in rows))
    names = [name for name in NON_IDEALITIES if any(row.non_ideality == name for row in rows)]
    drawn = Figure(figsize=(9, 0.34 * len(names) + 1.6), layout="constrained")
    axes = drawn.subplots(1, 2, sharey=True)
    for number, task in enumerate(tasks):
        offset = 0.5 * ((number + 0.5) / len(tasks) - 0.5)
        for ax, kind, value in ((axes[0], "threshold", "mvm_error"), (axes[1], "equal_error", "normalised")):
            measured = [row for row in rows if (row.task, row.kind) == (task, kind)]
            at = [names.index(row.non_ideality) + offset for row in measured]
            marker = "osD^v"[number % 5]
            ax.plot(
                [getattr(row, value) for row in measured], at, marker, color=f"C{number}", ms=5, label=in_figure(task)
            )
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].set(xlabel="MVM error borne until A* falls below the share", xscale="log")
    axes[1].set(xlabel="A* at equal MVM error")
    axes[1].axvline(0.99, color="#888888", lw=0.8, ls="--")
    for ax in axes:
        ax.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    return drawn
