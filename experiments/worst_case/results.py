"""The rows of finished jobs, and the questions that tables, targets and figures ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cimenv.evaluation.intervals import mean_interval
from experiments.lab.rows import NAN, Row, mean_of, select
from experiments.worst_case.plan import Plan

MEMBERS = "_members"


class Results:
    """Rows by what was measured.

    Args:
        plan: the experiment's.
        jobs: rows of finished jobs by name, as the journal holds them.
    """

    def __init__(self, plan: Plan, jobs: Mapping[str, list[Row]]) -> None:
        self.plan = plan
        self.jobs = jobs
        known = [job for stage in plan.stages(jobs) for job in stage if job.name in jobs]
        self.rows = [{**row, **_carried(row, plan), **_published(row)} for job in known for row in jobs[job.name]]
        self.nets = [row for row in self.rows if row["kind"] == "net"]
        self.first = plan.first_bound

    def kind(self, kind: str, data: str) -> list[Row]:
        """Return the rows of one kind of job on one data set."""
        return select(self.rows, kind=kind, data=data)

    def labels(self, data: str) -> list[str]:
        """Return the recipes whose networks were measured."""
        return list(dict.fromkeys(row["recipe"] for row in self.kind("net", data)))

    def of(self, data: str, recipe: str, placed_for: str | None = None) -> list[Row]:
        """Return the rows of one network over its seeds: without blocks, or with those placed for a statistic."""
        kind = "net" if placed_for is None else "blocks"
        pool = select(self.rows, kind=kind, data=data, recipe=recipe)
        return pool if placed_for is None else select(pool, blocks=placed_for)

    def mean(self, field: str, data: str, recipe: str, placed_for: str | None = None) -> float:
        """Return the mean of a column over the seeds that are done; NaN without rows."""
        return mean_of(self.of(data, recipe, placed_for), field)

    def spread(self, field: str, data: str, recipe: str, placed_for: str | None = None) -> float:
        """Return the standard deviation of a column over seeds; NaN for fewer than two."""
        values = [row[field] for row in self.of(data, recipe, placed_for)]
        return float(np.std(values, ddof=1)) if len(values) > 1 else NAN

    def winner(self, data: str, contest: str, family: str) -> str:
        """Return the try that VALIDATION prefers, if its networks of all seeds are measured."""
        label = self.plan.winner(data, contest, family, self.jobs)
        done = label is not None and len(self.of(data, label)) == len(self.plan.seeds)
        return label if label is not None and done else "not measured"

    def best(self, data: str, contest: str, families: Sequence[str]) -> str:
        """Return the winner of several families that VALIDATION prefers."""
        labels = [self.winner(data, contest, family) for family in families]
        rows = {row["recipe"]: row["val_accuracy"] for kind in ("try", "judge") for row in self.kind(kind, data)}
        known = [label for label in labels if label in rows]
        return max(known, key=lambda label: rows[label], default="not measured")

    def gain(self, field: str, data: str, recipe: str, base: str) -> tuple[float, tuple[float, float] | None]:
        """Return the mean difference of a column, paired over training seeds, and its 95 % interval."""
        ours, theirs = ({row["seed"]: row[field] for row in self.of(data, each)} for each in (recipe, base))
        paired = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
        if not paired:
            return NAN, None
        return float(np.mean(paired)), mean_interval(np.array(paired)) if len(paired) > 1 else None


def _carried(row: Row, plan: Plan) -> Row:
    """Return the worst accuracy at every bound, that at smaller ones included: a smaller box lies within a larger one.

    The bounds are attacked on different numbers of images, so this is the least of estimates, not of one count.
    """
    bounds = [bound for bound in sorted(plan.bounds) if f"worst_{bound:g}" in row]
    worst = [row[f"worst_{bound:g}"] for bound in bounds]
    return {f"worst_{bound:g}": min(worst[: k + 1]) for k, bound in enumerate(bounds)}


def _published(row: Row) -> Row:
    """Return the accuracy that the published attack alone found at every bound."""
    return {
        f"{name.removesuffix(MEMBERS)}_published": members["pgd_published"]
        for name, members in row.items()
        if name.endswith(MEMBERS)
    }
