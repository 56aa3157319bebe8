"""The log files of a run: both only grow, so that a resumed run can cut them back to its checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat
from tensorboard.summary.writer import event_file_writer

from cimenv.core.errors import ConfigError

PROGRESS = "progress.csv"
EVENTS = "events.out.tfevents.*"
CLOCK = "time/"  # wall-clock rows would differ from run to run


class ProgressCsv(KVWriter):
    """Appends `step,metric,value` rows; never rewrites what is there."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file, lineterminator="\n")
        if self.file.tell() == 0:
            self.rows.writerow(["step", "metric", "value"])
            self.file.flush()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Append the numbers of one dump, sorted by name."""
        for key, value in sorted(key_values.items()):
            wanted = not key.startswith(CLOCK) and "csv" not in key_excluded.get(key, ())
            if wanted and isinstance(value, int | float | np.number):
                self.rows.writerow([step, key, repr(float(value))])
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class RunTensorBoard(TensorBoardOutputFormat):
    """SB3's TensorBoard files without wall-clock metrics; a later file sorts after an earlier one."""

    def __init__(self, folder: Path) -> None:
        stamps = [int(path.name.split(".")[3]) for path in folder.glob(EVENTS)]
        with _clock_at_least(max(stamps, default=0) + 1):  # readers take files in the order of their names
            super().__init__(str(folder))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write all but the metrics of the clock."""
        kept = {key: value for key, value in key_values.items() if not key.startswith(CLOCK)}
        super().write(kept, {key: key_excluded[key] for key in kept}, step)


@contextmanager
def _clock_at_least(second: int) -> Iterator[None]:
    """Name event files as at a second, where the clock has not come there yet or has been set back."""
    clock = event_file_writer.time
    event_file_writer.time = SimpleNamespace(time=lambda: max(clock.time(), second))
    try:
        yield
    finally:
        event_file_writer.time = clock


def open_logger(folder: Path) -> Logger:
    """Return a logger that writes into `folder` only."""
    return Logger(str(folder), [RunTensorBoard(folder), ProgressCsv(folder / PROGRESS)])


def log_lengths(logger: Logger) -> dict[str, int]:
    """Write out everything logged so far and return the length of every log file by name."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.flush()
    assert logger.dir is not None
    return {path.name: path.stat().st_size for path in _log_files(Path(logger.dir))}


def cut_logs(folder: Path, lengths: Mapping[str, int]) -> None:
    """Cut the log files back to earlier lengths; files that did not exist then are deleted.

    Raises:
        ConfigError: a file is missing or shorter than it was.
    """
    for name, length in lengths.items():
        path = folder / name
        if not path.exists() or path.stat().st_size < length:
            raise ConfigError(f"{path} is missing or shorter than at the checkpoint; delete {folder} and start again.")
    for path in _log_files(folder):
        if path.name not in lengths:
            path.unlink()
        else:
            with path.open("r+b") as file:
                file.truncate(lengths[path.name])


def pending_logs(logger: Logger) -> dict[str, Any]:
    """Return as JSON values what was recorded since the logger's last dump."""
    return {
        "values": {key: float(value) for key, value in logger.name_to_value.items()},
        "counts": dict(logger.name_to_count),
        "excluded": {key: list(names) for key, names in logger.name_to_excluded.items()},
    }


def restore_pending(logger: Logger, state: Mapping[str, Any]) -> None:
    """Record again what `pending_logs` returned."""
    logger.name_to_value.update(state["values"])
    logger.name_to_count.update(state["counts"])
    logger.name_to_excluded.update({key: tuple(names) for key, names in state["excluded"].items()})


def _log_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob(EVENTS), *folder.glob(PROGRESS)])
