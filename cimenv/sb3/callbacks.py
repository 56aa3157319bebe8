"""The dashboard of a placement policy, as a callback of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, brief
from cimenv.core.inert import printable
from cimenv.envs import EvaluationBudget
from cimenv.sb3.board import Board
from cimenv.sb3.figures import error_bars, heat_map
from cimenv.sb3.history import History, Info
from cimenv.sb3.rollout import placement_of
from cimenv.sb3.views import ActionView, action_view


class PlacementCallback(BaseCallback):
    """Logs what a placement policy does; for any algorithm: `model.learn(steps, callback=PlacementCallback())`.

    With `learn(..., log_interval=None)` the callback says when the logger writes: at every report, for all algorithms
    alike in environment steps; else SB3 does, by rollouts or episodes.

    Scalars go through SB3's logger at ends of rollouts: `placement/...` (means of the episodes since the last report,
    and the run's best), `policy/SITE/OPTION` (probability of every first action; for a DQN `q/SITE/OPTION`, its
    Q-value), `sites/SITE` (share of the episodes with a block there), `errors/SITE/none|placed` (feature error of the
    last finished episode's placement). With a TensorBoard writer there are pictures (`policy/heatmap` or `q/heatmap`,
    `search/pareto`, `errors/bars`, `placement/network`), `search/...` over distinct evaluations, the HPARAMS tab with
    `final/...` as its metrics, and a layout of the CUSTOM SCALARS tab. docs/guide/agents.md explains every one.

    Reset hooks: episode means are over all tasks; placements, best, errors and pictures are those of the task without
    hooks.

    Args:
        every: least environment steps between two reports.
        images_every: reports between two sets of pictures; the first and the last report have them.
        final: returns the infos of a rollout of the final policy (`deterministic_rollout`), called at the end of the
            training; by default the last finished episode stands for the final policy.
    """

    def __init__(self, every: int = 256, images_every: int = 5, final: Callable[[], list[Info]] | None = None) -> None:
        super().__init__()
        self.every, self.images_every = checked_int("every", every, 1), checked_int("images_every", images_every, 1)
        if final is not None and not callable(final):
            raise ConfigError(f"final: got {brief(final)}; give a function that returns the infos of an episode.")
        self.final = final
        self.reports = 0
        self.reported_at = 0
        self.history: History | None = None
        self._observation: np.ndarray[Any, Any] = np.zeros((1, 0), dtype=np.float32)
        self._mask = np.zeros((1, 0), dtype=np.bool_)

    # The run

    def _on_training_start(self) -> None:
        try:
            self.names = self._asked("action_names")
        except AttributeError:
            raise ConfigError(
                "PlacementCallback found no placement environment; train on CiMCompensation-v0 or "
                "CiMCompensationWalk-v0."
            ) from None
        self.task = self.training_env.get_attr("base_task", indices=[0])[0]
        self.sites = [
            printable(site.name) for site in self.training_env.get_attr("block_options", indices=[0])[0].sites
        ]
        self.board = Board(self.logger)
        self.reported_at = min(self.reported_at, self.num_timesteps)
        if self.history is not None:
            return
        observation = self.model._last_obs
        assert isinstance(observation, np.ndarray)
        self._observation = observation[:1].copy()
        self._mask = np.stack([self._asked("action_masks")])
        self.history = History(self.task.key)
        self.history.start(list(getattr(self.training_env, "reset_infos", [{}] * self.training_env.num_envs)))
        self._write_search()
        self.board.hyper_parameters(self.model, printable(self.task.name))
        self._write_layout()

    def _on_step(self) -> bool:
        assert self.history is not None
        given = zip(self.locals["rewards"], self.locals["dones"], self.locals["infos"], strict=True)
        for k, (reward, done, info) in enumerate(given):
            new = self.history.step(k, float(reward), bool(done), info)
            if done:  # with reset hooks the next episode may begin with a placement of another task
                new |= self.history.note(getattr(self.training_env, "reset_infos", [{}] * (k + 1))[k])
            if new:
                self._write_search()
        return True

    def _on_rollout_end(self) -> None:
        last = self.num_timesteps >= self.model._total_timesteps  # then the end of the training reports
        if self.num_timesteps - self.reported_at >= self.every and not last:
            self._report(images=self.reports % self.images_every == 0)
            if self._writes_rows:
                self.model.dump_logs()

    def _on_training_end(self) -> None:
        assert self.history is not None
        if self.final is not None:
            infos = self.final()
            new = [self.history.note(info) for info in infos]
            if any(new):
                self._write_search()
            self.history.last = placement_of(infos[-1])
        self._report(images=True)
        self._write_trainings()
        self._write_final()
        if self._writes_rows:
            self.model.dump_logs()
        else:
            self.logger.dump(self.num_timesteps)

    # Reports

    def _report(self, images: bool) -> None:
        """Record everything for the logger's next dump."""
        history, record = self.history, self.logger.record
        assert history is not None
        self.reports += 1
        self.reported_at = self.num_timesteps
        if history.ended:
            for name, value in history.means().items():
                record(f"placement/{name}", value)
            for site, share in zip(self.sites, history.site_shares(), strict=True):
                record(f"sites/{site}", share)
            history.ended = []
        record("placement/evaluations", self._evaluations())
        if history.best_point is not None:
            record("placement/best_objective", history.best_point.objective)
        view = action_view(self.model.policy, self._observation, self._mask)
        if view is not None:
            for tag, value in zip(self._tags(view.kind), view.values, strict=True):
                record(tag, float(value))
            if view.kind == "q":
                record("q/greedy_action", view.greedy)
        if history.last is not None:
            self._record_errors()
        if images and self.board.there:
            self._draw(view)

    def _record_errors(self) -> None:
        assert self.history is not None and self.history.last is not None
        _, none, placed = self._asked("outcome", self.history.last)
        for site, before, after in zip(self.sites, none.site_errors[:, 0], placed.site_errors[:, 0], strict=True):
            self.logger.record(f"errors/{site}/none", float(before))
            self.logger.record(f"errors/{site}/placed", float(after))

    def _draw(self, view: ActionView | None) -> None:
        from cimenv.analysis.pareto import pareto_figure
        from cimenv.envs.render import figure

        history, step = self.history, self.num_timesteps
        assert history is not None
        if view is not None:
            self.board.figure(f"{view.kind}/heatmap", heat_map(self.names, view, step), step)
        if history.last is not None:
            _, none, placed = self._asked("outcome", history.last)
            title = f"last episode, step {step}: {_digits(history.last)}"
            errors = error_bars(self.sites, none.site_errors[:, 0], placed.site_errors[:, 0], title)
            self.board.figure("errors/bars", errors, step)
        if history.best is None or history.best_point is None:
            return
        points = list(history.of_task.values())
        self.board.figure(
            "search/pareto",
            pareto_figure(
                np.array([point.cost for point in points]),
                np.array([point.accuracy for point in points]),
                {f"best J: {_digits(history.best)}": (history.best_point.cost, history.best_point.accuracy)},
                value_label=f"accuracy over chips ({self.task.statistic})",
                title=f"{self.task.name}: {len(points)} placements seen, {self.task.chips} validation chips",
            ),
            step,
        )
        self.board.figure("placement/network", figure(*self._asked("outcome", history.best)), step)

    def _write_search(self) -> None:
        assert self.history is not None
        best = self.history.best_point
        if best is not None:
            self.board.scalar("search/best_objective", best.objective, len(self.history.points))
            most = max(point.accuracy for point in self.history.of_task.values())
            self.board.scalar("search/best_accuracy", most, len(self.history.points))

    def _write_trainings(self) -> None:
        """Write what every epoch of the backbones' trainings measured, over epochs."""
        for recipe, history in self._asked("training_histories").items():
            for epoch in history:
                for name, value in epoch.items():
                    if name != "epoch":
                        self.board.scalar(f"training/{recipe}/{name}", value, int(epoch["epoch"]))

    def _write_layout(self) -> None:
        tags = self._tags("q" if hasattr(self.model.policy, "q_net") else "policy")
        actions: dict[str, list[str]] = {"action 0": tags[:1]}
        for (site, _), tag in zip(self.names, tags[1:], strict=True):
            actions.setdefault(site, []).append(tag)
        self.board.layout(actions, self.sites)

    def _write_final(self) -> None:
        """Write the metrics of the HPARAMS tab."""
        assert self.history is not None
        best, last = self.history.best_point, self.history.last
        values = {"evaluations": float(self._evaluations())}
        if best is not None:
            values["best_objective"] = best.objective
        if last is not None:
            objective, _, placed = self._asked("outcome", last)
            values["objective"] = objective.value(placed)
            values["accuracy"] = objective.accuracy(placed)
            values["cost"] = objective.cost(last)
        for name, value in values.items():
            self.logger.record(f"final/{name}", value)

    # Parts

    @property
    def _writes_rows(self) -> bool:
        """Return whether `learn` leaves it to this callback when the logger writes."""
        return self.locals.get("log_interval", 1) is None

    def _asked(self, method: str, *arguments: Any) -> Any:
        return self.training_env.env_method(method, *arguments, indices=[0])[0]

    def _evaluations(self) -> int:
        """Return the distinct placements of the run: the budget's account if there is one."""
        assert self.history is not None
        if self.training_env.env_is_wrapped(EvaluationBudget, indices=[0])[0]:
            return int(self.training_env.get_attr("spent", indices=[0])[0])
        return len(self.history.points)

    def _tags(self, kind: str) -> list[str]:
        return [f"{kind}/stop", *(f"{kind}/{site}/{option}" for site, option in self.names)]

    # An interrupted run

    def state(self) -> dict[str, Any]:
        """Return as JSON values what `restore` needs to go on reporting as if never interrupted."""
        return {
            "reports": self.reports,
            "reported_at": self.reported_at,
            "history": self.history.state() if self.history is not None else None,
            "observation": self._observation.tolist(),
            "mask": self._mask.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state()` described; before `model.learn`."""
        self.reports, self.reported_at = state["reports"], state["reported_at"]
        self.history = History.from_state(state["history"]) if state["history"] is not None else None
        self._observation = np.array(state["observation"], dtype=np.float32)
        self._mask = np.array(state["mask"], dtype=np.bool_)


def _digits(placement: tuple[int, ...]) -> str:
    return "".join(map(str, placement)) if max(placement) < 10 else " ".join(map(str, placement))
