"""An experiment that takes hours: a plan's jobs are measured one by one, and every finished one is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cimenv.core.config import read_yaml, with_overrides
from cimenv.core.errors import CimenvError, ConfigError
from cimenv.core.writing import disk_faults, only_process, writing
from cimenv.data import load_data
from experiments.lab.folders import command_of, config_of, results_of, runs_of
from experiments.lab.journal import JOURNAL, Journal
from experiments.lab.plan import ExperimentPlan
from experiments.lab.processes import run_stages
from experiments.lab.rows import Row

REPORT, REPORT_HELP = "--report", "With --report the results of what is done are written, and nothing is computed."


P = TypeVar("P", bound=ExperimentPlan)


def _nothing(_journal: Journal, _job: Any) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True)
class Experiment(Generic[P]):
    """An experiment: configs/experiments/NAME.yaml is its plan, results/NAME its results, runs/NAME its networks.

    Attributes:
        name: of its files.
        plan: class of its configuration.
        measure: from plan, job and the folder of what is trained, a job's rows; runs in another process.
        write: from plan, journal and folder, writes tables, targets and figures.
        more: from journal and job, further arguments of `measure`.
    """

    name: str
    plan: type[P]
    measure: Callable[..., list[Row]]
    write: Callable[[P, Journal, Path], None]
    more: Callable[[Journal, Any], tuple[Any, ...]] = _nothing

    def command(self, arguments: list[str], doc: str | None) -> int:
        """Run the experiment from the command line, `[YAML] [key=value ...]`; `doc` is printed for `--help`."""
        if any(argument in ("-h", "--help") for argument in arguments):
            print(doc, REPORT_HELP, sep="\n")
            return 0
        words = [argument for argument in arguments if argument != REPORT]
        given = bool(words) and "=" not in words[0]
        path = Path(words.pop(0)) if given else config_of(self.name)
        out = results_of(self.name)
        try:
            plan = self.plan(**with_overrides(read_yaml(path), words))
            with disk_faults(out):
                if REPORT in arguments:
                    self.write(plan, Journal(out / JOURNAL, plan.measured()), out)
                else:
                    self.run(plan, out)
            if not (out / "table.md").exists():
                raise ConfigError(f"{out}: nothing is measured yet; run {command_of(self.name)} without {REPORT}.")
        except CimenvError as error:
            print(error, file=sys.stderr)
            return 2
        print((out / "table.md").read_text())
        return 0

    def run(self, plan: P, out: Path) -> None:
        """Do what a plan has left, and write the results after every job.

        Raises:
            ConfigError: another process measures into the folder, or it cannot be written.
            DataError: a data set is missing; told before anything is computed.
        """
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        with only_process(out / ".lock", f"Another process measures into {out}; wait until it has finished."):
            journal = Journal(out / JOURNAL, plan.measured())
            for data in plan.data:
                load_data(data)
            folder = runs_of(self.name)
            run_stages(
                plan.stages(journal.rows),
                journal,
                lambda job: (self.measure, (plan, job, folder, *self.more(journal, job))),
                lambda: self.write(plan, journal, out),
            )
