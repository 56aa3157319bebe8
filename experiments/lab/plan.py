"""What an experiment measures: a plan, read from YAML, and its jobs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from cimenv.core.config import Frozen, canonical, digest
from experiments.lab.rows import Row

Done = Mapping[str, list[Row]]  # rows of finished jobs by name
NOTHING: Done = MappingProxyType({})


class ExperimentJob(Frozen):
    """A piece of work that one process does; its fields tell it from all others of the experiment."""

    @property
    def name(self) -> str:
        """Return the job's name in the journal: its fields."""
        return "-".join(str(value) for value in self.model_dump(mode="json").values())


class ExperimentPlan(Frozen):
    """The configuration of an experiment."""

    # Fields that only select jobs; all others change the numbers of every job.
    SELECTING: ClassVar[tuple[str, ...]] = ()

    data: tuple[str, ...] = Field((), description="data sets that must be there before it begins")

    def measured(self) -> dict[str, Any]:
        """Return the fields that change every job's numbers: a journal is of one set of them."""
        return self.model_dump(mode="json", exclude={"data", *self.SELECTING})

    @abstractmethod
    def stages(self, done: Done = NOTHING) -> Iterable[Sequence[Any]]:
        """Return the jobs; those of a stage need only the stages before it.

        Args:
            done: rows of finished jobs by name, from which later stages may follow; read again before every stage.
        """


def settings_digest(*settings: Any) -> str:
    """Return the digest that ends a job's name: it changes with the settings behind the job's labels."""
    return digest(canonical(list(settings)))[:8]
