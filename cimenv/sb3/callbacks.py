"""TensorBoard curves of placement policies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure

from cimenv.compensation.options import Placement


class PlacementCallback(BaseCallback):
    """Logs what a placement policy does.

    Metrics, at every end of a rollout: `placement/return` (mean of the episodes since the last one),
    `placement/accuracy`, `placement/cost`, `placement/evaluations` (distinct placements of the run),
    `placement/best_objective`; `policy/stop` and `policy/SITE/OPTION`, the probability of each action in the empty
    placement; `policy/heatmap`, the same as an image.

    Args:
        names: a label for every action but stop, `(site, option)`.
        images_every: rollouts between two heat maps.
    """

    def __init__(self, names: list[tuple[str, str]], images_every: int = 5) -> None:
        super().__init__()
        self.names, self.images_every = names, images_every
        self.best = -np.inf
        self.best_placement: Placement = ()
        self.seen: dict[Placement, float] = {}
        self.rollouts = 0
        self._ended: list[dict[str, Any]] = []
        self._returns: npt.NDArray[np.float64] = np.zeros(0)
        self._episode_returns: list[float] = []
        self._first_observation: npt.NDArray[np.float32] | None = None

    def _on_training_start(self) -> None:
        assert self.model._last_obs is not None and not isinstance(self.model._last_obs, dict)
        self._first_observation = self.model._last_obs[:1].copy()
        self._first_mask = np.stack(self.training_env.env_method("action_masks", indices=[0]))
        self._returns = np.zeros(self.training_env.num_envs)

    def _on_step(self) -> bool:
        self._returns += self.locals["rewards"]
        for k, (info, done) in enumerate(zip(self.locals["infos"], self.locals["dones"], strict=True)):
            placement = tuple(int(o) for o in info["placement"] if o >= 0)
            if not info["evaluated"]:
                continue
            self.seen.setdefault(placement, float(info["objective"]))
            if info["objective"] > self.best:
                self.best, self.best_placement = float(info["objective"]), placement
            if done:
                self._ended.append(info)
                self._episode_returns.append(float(self._returns[k]))
                self._returns[k] = 0.0
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        record = self.logger.record
        if self._ended:
            record("placement/return", float(np.mean(self._episode_returns)))
            record("placement/accuracy", float(np.mean([info["accuracy"] for info in self._ended])))
            record("placement/cost", float(np.mean([info["cost"]["scalar"] for info in self._ended])))
            last = self._ended[-1]
            record("placement/evaluations", last.get("run_evaluations", len(self.seen)))
            record("placement/best_objective", self.best)
            self._ended, self._episode_returns = [], []
        probabilities = self.action_probabilities()
        if probabilities is None:
            return
        record("policy/stop", float(probabilities[0]))
        for (site, option), probability in zip(self.names, probabilities[1:], strict=True):
            record(f"policy/{site}/{option}", float(probability))
        if self.rollouts % self.images_every == 1:
            figure = heat_map(self.names, probabilities)
            record("policy/heatmap", Figure(figure, close=True), exclude=("stdout", "log", "json", "csv"))

    def action_probabilities(self) -> npt.NDArray[np.float64] | None:
        """Return the probability of every action in the empty placement; None for policies without one."""
        policy: Any = self.model.policy
        if not hasattr(policy, "get_distribution") or self._first_observation is None:
            return None
        observation, _ = policy.obs_to_tensor(self._first_observation)
        masked = {"action_masks": self._first_mask} if "Maskable" in type(policy).__name__ else {}
        with torch.no_grad():
            distribution = policy.get_distribution(observation, **masked).distribution
        return np.asarray(distribution.probs[0].cpu().numpy(), dtype=np.float64)


def heat_map(names: list[tuple[str, str]], probabilities: npt.NDArray[np.float64]) -> Any:
    """Return a figure: sites down, options across, the probability of stop in the title."""
    from matplotlib.figure import Figure as Canvas

    sites = list(dict.fromkeys(site for site, _ in names))
    width = len(names) // max(len(sites), 1)
    table = probabilities[1:].reshape(len(sites), width)
    figure = Canvas(figsize=(1.6 + 1.3 * width, 1.2 + 0.5 * len(sites)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(table, vmin=0, cmap="viridis", aspect="auto")
    axes.set_yticks(range(len(sites)), sites)
    axes.set_xticks(range(width), [f"option {o + 1}" for o in range(width)])
    for (s, o), value in np.ndenumerate(table):
        label = f"{names[s * width + o][1]}\n{value:.2f}"
        bright = value > 0.5 * table.max()
        axes.text(o, s, label, ha="center", va="center", fontsize=7, color="black" if bright else "white")
    axes.set_title(f"first action of the policy (stop: {probabilities[0]:.2f})", fontsize=9)
    figure.colorbar(image, ax=axes, label="probability")
    return figure
