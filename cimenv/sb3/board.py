"""What goes to TensorBoard past SB3's logger: pictures, curves over evaluations, HPARAMS, the custom layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat

HYPER_PARAMETERS = (
    *("learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef"),
    *("buffer_size", "learning_starts", "gradient_steps", "target_update_interval", "tau"),
    *("exploration_fraction", "exploration_final_eps", "seed"),
)
FINAL = ("best_objective", "objective", "accuracy", "cost", "evaluations")


class Board:
    """The TensorBoard writer of a logger; without one every call does nothing."""

    def __init__(self, logger: Logger) -> None:
        formats = [f for f in logger.output_formats if isinstance(f, TensorBoardOutputFormat)]
        self.format = formats[0] if formats else None

    @property
    def there(self) -> bool:
        """Return whether anything is written."""
        return self.format is not None

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write a number at an x axis of its own."""
        if self.format is not None:
            self.format.writer.add_scalar(tag, value, step)

    def figure(self, tag: str, figure: Any, step: int) -> None:
        """Write a matplotlib figure."""
        if self.format is not None:
            self.format.writer.add_figure(tag, figure, step)

    def hyper_parameters(self, model: BaseAlgorithm, task: str) -> None:
        """Write what the HPARAMS tab shows; its metrics are the scalars `final/...`."""
        if self.format is None:
            return
        settings = {name: getattr(model, name) for name in HYPER_PARAMETERS if hasattr(model, name)}
        values: dict[str, bool | str | float | None] = {"algorithm": type(model).__name__, "task": task}
        values.update({name: value for name, value in settings.items() if isinstance(value, bool | int | float | str)})
        values["net_arch"] = str(model.policy_kwargs.get("net_arch", "default"))
        metrics = {f"final/{name}": 0.0 for name in FINAL}
        self.format.write({"hparams": HParam(values, metrics)}, {"hparams": ()}, 0)

    def layout(self, actions: Mapping[str, Sequence[str]], sites: Sequence[str]) -> None:
        """Write the groups of the CUSTOM SCALARS tab.

        Args:
            actions: site -> tags of its actions.
            sites: names.
        """
        if self.format is None:
            return
        self.format.writer.add_custom_scalars(
            {
                "learning": {
                    "return": ["Multiline", ["placement/return", "placement/best_objective"]],
                    "accuracy": ["Multiline", ["placement/accuracy"]],
                    "cost": ["Multiline", ["placement/cost"]],
                    "search, over evaluations": ["Multiline", ["search/best_objective", "search/best_accuracy"]],
                    "episodes": ["Multiline", ["placement/episode_length", "placement/invalid_actions"]],
                },
                "policy": {site: ["Multiline", list(tags)] for site, tags in actions.items()},
                "sites": {"share of episodes": ["Multiline", [f"sites/{site}" for site in sites]]},
                "errors": {site: ["Multiline", [f"errors/{site}/none", f"errors/{site}/placed"]] for site in sites},
            }
        )
