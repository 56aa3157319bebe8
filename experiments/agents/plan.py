"""What is compared: its configuration and its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from cimenv.core.config import Frozen, merged
from cimenv.tasks.evaluators.table import shipped_tables
from experiments.agents.contender import Contender
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest
from experiments.lab.table_files import tables_digest


class Tuning(Frozen):
    """The same effort for every contender: trials of Optuna's TPE over its ranges."""

    tables: tuple[str, ...]
    seeds: int = Field(ge=1)
    trials: int = Field(ge=1)
    evaluations: int = Field(ge=1)


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("groups", "contenders", "tested")

    groups: dict[str, tuple[str, ...]] = Field(min_length=1, description="tables that are reported together")
    seeds: int = Field(ge=2, description="runs of every contender on every table")
    evaluations: int = Field(ge=1, description="distinct placements of a run")
    points: tuple[int, ...] = Field(description="evaluations after which regret is noted")
    tuning: Tuning
    contenders: dict[str, Contender]
    tested: tuple[str, ...] = Field((), description="contenders whose placements are measured on the test split")

    @model_validator(mode="after")
    def _check(self) -> Plan:
        if not self.points or not all(1 <= point <= self.evaluations for point in self.points):
            raise ValueError(f"points are {self.points}; give some from 1 to evaluations ({self.evaluations})")
        if unknown := set(self.tested) - set(self.contenders):
            raise ValueError(f"tested names {min(unknown)}, which is none of the contenders")
        return self

    @property
    def tables(self) -> dict[str, str]:
        """Return the group of every table."""
        return {table: group for group, tables in self.groups.items() for table in tables}

    def stages(self, done: Done = NOTHING) -> Iterator[list[Job]]:
        """Yield jobs: tuning, the runs with what it found, and the test of what those found."""
        yield [self.job("tune", name) for name, contender in self.contenders.items() if contender.ranges]
        tuned = {name: self.tuned(name, done) for name in self.contenders}
        yield [
            self.job("run", name, table, settings)
            for table in self.tables
            for name, settings in tuned.items()
            if settings is not None
        ]
        yield [self._test(table, tuned, done) for table in self.tables if self.tested]

    def _test(self, table: str, tuned: Mapping[str, dict[str, Any] | None], rows: Done) -> Job:
        """Return the test of the placements that most runs of a contender ended with."""
        placements: dict[str, list[int]] = {}
        for name in self.tested:
            runs = rows.get(self.job("run", name, table, tuned[name]).name, [])
            for placement, _ in Counter(tuple(row["placement"]) for row in runs).most_common(1):
                placements[name] = list(placement)
        return self.job("test", "all", table, placements)

    def tuned(self, contender: str, rows: Done) -> dict[str, Any] | None:
        """Return the settings of the best trial; nothing to set without ranges, or None before it is tuned."""
        if not self.contenders[contender].ranges:
            return {}
        trials = rows.get(self.job("tune", contender).name)
        return dict(min(trials, key=lambda row: row["regret"])["settings"]) if trials else None

    def as_tuned(self, rows: Done) -> dict[str, Any]:
        """Return the contenders that are tuned, with the settings of their best trial in the place of ranges."""
        contenders = {}
        for name, contender in self.contenders.items():
            settings = self.tuned(name, rows)
            if settings:
                who = contender.model_dump(
                    mode="json", include={"search", "agent", "env_arguments"}, exclude_defaults=True
                )
                contenders[name] = {**who, "settings": merged(contender.settings, settings)}
        return contenders

    def job(
        self,
        kind: Literal["tune", "run", "test"],
        contender: str,
        table: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Job:
        """Return a job; its digest changes with what stands behind its label."""
        what = self.contenders[contender].model_dump(mode="json") if kind != "test" else {}
        if not what.get("env_arguments"):
            what.pop("env_arguments", None)
        if kind == "run":
            what.pop("ranges")
        tables = list(self.tuning.tables) if kind == "tune" else [table] if table is not None else []
        if what.get("search") == "transfer":
            tables += shipped_tables()  # it learns from them
        behind = settings_digest(what, dict(settings or {}), tables_digest(tables))
        return Job(kind=kind, contender=contender, table=table, settings=dict(settings or {}), digest=behind)


class Job(ExperimentJob):
    """A piece of work that one process does: a contender's tuning, its runs on one table, or the test of placements.

    `settings` are those of a run, or the placements of a test.
    """

    kind: Literal["tune", "run", "test"]
    contender: str
    table: str | None
    settings: dict[str, Any]
    digest: str

    @property
    def name(self) -> str:
        """Return the job's name in the journal."""
        return "-".join(filter(None, [self.kind, self.contender, self.table, self.digest]))
