"""What is measured: its configuration, its jobs, the tasks behind them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cimenv.core.config import Frozen, merged
from cimenv.tasks import Task, load_task
from experiments.lab.plan import NOTHING, Done, ExperimentJob, ExperimentPlan, settings_digest

Kind = Literal["direct", "hwa", "whole", "blocks", "rivals", "sensitivity"]
HOUR_S = 3_600.0


class Network(Frozen):
    """A trained network on its crossbar."""

    family: Literal["cnn", "lstm", "transformer"]
    task: dict[str, Any]


class SensitivityPlan(Frozen):
    """Which networks bear how much of one non-ideality."""

    networks: tuple[str, ...]
    chips: int
    images: int


class Plan(ExperimentPlan):
    """The experiment's configuration."""

    SELECTING = ("networks", "sensitivity", "whole_images")

    networks: dict[str, Network]
    seed: int
    times_s: tuple[float, ...]
    chips: int = Field(description="test chips of every point")
    images: int = Field(description="test images of every chip, evenly spaced")
    whole_images: int = Field(description="test images of the networks that targets are judged by: all of the split")
    noise_scales: tuple[float, ...] = Field(description="of the devices, for the blocks")
    open_points: float = Field(description="loss of A* at the last time that blocks are placed against")
    search: dict[str, Any] = Field(description="fields of the task in which blocks are searched and fitted")
    sensitivity: SensitivityPlan

    def task(self, job: Job, **changes: Any) -> Task:
        """Return the task of a job, at all times, on the report's chips and images."""
        fields: dict[str, Any] = {
            "name": f"aimc-{job.network}",
            "training_seed": self.seed,
            "training_threads": 1,
            "times_s": self.times_s,
            "report_chips": self.chips,
            "report_images": self.images,
        }
        return load_task(merged(merged(self.networks[job.network].task, fields), changes))

    def stages(self, done: Done = NOTHING) -> list[list[Job]]:
        """Return the jobs: training before blocks; large networks first, so that no core waits for one at the end."""
        networks, borne = list(reversed(self.networks)), list(reversed(self.sensitivity.networks))
        return [
            [self.job("direct", network) for network in networks],
            [
                *(self.job("hwa", network) for network in networks),
                *(self.job("sensitivity", network) for network in borne),
            ],
            [
                *(self.job("blocks", network) for network in networks),
                *(self.job("whole", network) for network in networks),
            ],
            [self.job("rivals", network) for network in networks],
        ]

    def job(self, kind: Kind, network: str) -> Job:
        """Return a job; its digest changes with the settings behind its label."""
        settings = {"sensitivity": self.sensitivity.model_dump(exclude={"networks"}), "whole": self.whole_images}
        more = settings.get(kind)
        return Job(kind=kind, network=network, settings=settings_digest(self.networks[network].task, more))


class Job(ExperimentJob):
    """A piece of work that one process does.

    `direct`: the digital network mapped as it is; `hwa`: fine-tuned for its crossbar; `whole`: the same on every test
    image, at one hour and at the last time; `sensitivity`: one non-ideality at a time on the digital network; `blocks`:
    placed on the fine-tuned network; `rivals`: of these blocks, within the same budget, and without one.
    """

    kind: Kind
    network: str
    settings: str = Field(description="digest of what the network's label stands for")
