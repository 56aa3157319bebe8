"""What a training run has seen: every distinct placement, and the episodes since the last report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from cimenv.compensation.options import Placement
from cimenv.sb3.rollout import placement_of

Info = dict[str, Any]


class Point(NamedTuple):
    """One evaluated placement."""

    objective: float
    accuracy: float
    cost: float
    weights: float

    @property
    def rank(self) -> tuple[float, float]:
        """Return the key by which `Objective.rank` orders placements."""
        return self.objective, -self.weights


@dataclass
class Episode:
    """An episode under way, or a finished one."""

    total: float = 0.0
    length: int = 0
    invalid: int = 0
    accuracy: float = 0.0
    cost: float = 0.0
    placement: Placement = ()


@dataclass
class History:
    """The distinct placements of a run and the episodes that ended since the last report.

    Attributes:
        task_key: the task without reset hooks; only its placements compete for the best.
        points: (task key, placement) -> what it reached, in the order of first evaluation.
        best: the best placement of the task.
        last: placement of the task's last finished episode.
        running: the episode under way in every environment.
        ended: finished episodes since the last report.
    """

    task_key: str
    points: dict[tuple[str, Placement], Point] = field(default_factory=dict)
    best: Placement | None = None
    last: Placement | None = None
    running: list[Episode] = field(default_factory=list)
    ended: list[Episode] = field(default_factory=list)

    def start(self, reset_infos: Sequence[Info]) -> None:
        """Note the first placement of every environment."""
        self.running = [Episode() for _ in reset_infos]
        for info in reset_infos:
            self.note(info)

    def note(self, info: Info) -> bool:
        """Note an evaluated placement and return whether it is new."""
        key = (info.get("task_key", self.task_key), placement_of(info)) if "placement" in info else None
        if key is None or not info["evaluated"] or key in self.points:
            return False
        cost = info["cost"]
        point = Point(float(info["objective"]), float(info["accuracy"]), cost["scalar"], cost["weights"])
        self.points[key] = point
        if key[0] == self.task_key and (self.best is None or point.rank > self.points[key[0], self.best].rank):
            self.best = key[1]
        return True

    def step(self, env: int, reward: float, done: bool, info: Info) -> bool:
        """Note one step of one environment and return whether its placement is new."""
        episode = self.running[env]
        episode.total += reward
        episode.length += 1
        episode.invalid += bool(info.get("invalid_action", False))
        new = self.note(info)
        if done:
            episode.accuracy, episode.cost = float(info["accuracy"]), info["cost"]["scalar"]
            episode.placement = placement_of(info)
            self.ended.append(episode)
            self.running[env] = Episode()
            if info["task_key"] == self.task_key:
                self.last = episode.placement
        return new

    @property
    def of_task(self) -> dict[Placement, Point]:
        """Return the points of the task without reset hooks."""
        return {placement: point for (task, placement), point in self.points.items() if task == self.task_key}

    @property
    def best_point(self) -> Point | None:
        """Return the point of the best placement."""
        return self.points[self.task_key, self.best] if self.best is not None else None

    def means(self) -> dict[str, float]:
        """Return the means over the ended episodes."""
        columns: dict[str, list[float]] = {
            "return": [e.total for e in self.ended],
            "accuracy": [e.accuracy for e in self.ended],
            "cost": [e.cost for e in self.ended],
            "episode_length": [e.length for e in self.ended],
            "invalid_actions": [e.invalid for e in self.ended],
        }
        return {name: float(np.mean(values)) for name, values in columns.items()}

    def site_shares(self) -> list[float]:
        """Return in which share of the ended episodes every site got a block."""
        return [float(share) for share in (np.array([e.placement for e in self.ended]) > 0).mean(axis=0)]

    def state(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "task_key": self.task_key,
            "points": [[task, list(placement), list(point)] for (task, placement), point in self.points.items()],
            "best": list(self.best) if self.best is not None else None,
            "last": list(self.last) if self.last is not None else None,
            "running": [asdict(episode) for episode in self.running],
            "ended": [asdict(episode) for episode in self.ended],
        }

    @staticmethod
    def from_state(state: dict[str, Any]) -> History:
        """Return the history that `state()` described."""

        def placement(values: list[int] | None) -> Placement | None:
            return None if values is None else tuple(values)

        def episodes(rows: Iterable[dict[str, Any]]) -> list[Episode]:
            return [Episode(**{**row, "placement": tuple(row["placement"])}) for row in rows]

        return History(
            state["task_key"],
            {(task, tuple(where)): Point(*point) for task, where, point in state["points"]},
            placement(state["best"]),
            placement(state["last"]),
            episodes(state["running"]),
            episodes(state["ended"]),
        )
