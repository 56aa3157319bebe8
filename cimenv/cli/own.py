"""A user's own network on the command line: `mine.py:network --data mine.py:data --weights mine.safetensors`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cimenv.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from cimenv.data import DataSplits
    from cimenv.tasks import MonteCarloEvaluator

NAMED = re.compile(r"[^:]+(:\\[^:]+)?:[A-Za-z_]\w*")  # mine.py:network, package.module:network

DataName = Annotated[
    str | None,
    typer.Option(metavar="FILE:NAME", help="Data of a network of your own: mine.py:data, or a registered name."),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its weights (safetensors); default: mine.py gives it trained."),
]
Crossbar = Annotated[
    str | None,
    typer.Option(metavar="NAME|YAML", help="Its crossbar, a preset or a file; default: lognormal."),
]


@dataclass(frozen=True)
class OwnNetwork:
    """A network that the command line names, and what belongs to it."""

    name: str
    data: str | None
    weights: Path | None
    crossbar: str | None
    overrides: list[str] | None

    @property
    def given(self) -> bool:
        """Whether the name is that of a network, not of a task.

        Raises:
            ConfigError: it is a task's, but data, weights or a crossbar were given.
        """
        if NAMED.fullmatch(self.name):
            return True
        for field, value in (("data", self.data), ("weights", self.weights), ("crossbar", self.crossbar)):
            if value is not None:
                raise ConfigError(
                    f"{field}: '{self.name}' is a task, which has its own; name a network (mine.py:network), or change "
                    f"the task with --set."
                )
        return False

    def check(self) -> None:
        """Refuse what names no network.

        Raises:
            ConfigError: the name has no `:`.
        """
        if not NAMED.fullmatch(self.name):
            raise ConfigError(
                f"network: got '{self.name}'; write file.py:name or package.module:name, and for a task take search."
            )

    def loaded(self) -> tuple[nn.Module, DataSplits]:
        """Import network and data, and read the weights.

        Raises:
            ConfigError, DataError: one of them is missing, fails, or does not fit.
        """
        from cimenv.tasks.own import named_data, named_model

        if self.data is None:
            raise ConfigError(
                f"data: '{self.name}' has none; give --data mine.py:data, or the name of a data set such as mnist."
            )
        return named_model(self.name, None if self.weights is None else str(self.weights)), named_data(self.data)

    def fields(self, **defaults: Any) -> dict[str, Any]:
        """Return the fields of the task that --crossbar and --set name, `crossbar` among them, over defaults.

        Raises:
            ConfigError: they cannot be read.
        """
        from cimenv.core.config import read_yaml, with_overrides

        name = self.crossbar or "lognormal"
        crossbar = read_yaml(name) if name.endswith((".yaml", ".yml")) else {"preset": name}
        named = {"name": self.name.rpartition(":")[2], "crossbar": crossbar, **defaults}
        return with_overrides(named, self.overrides or [])

    def evaluator(self, device: str, blocks: bool) -> MonteCarloEvaluator:
        """Return an evaluator of the network, with the block options of `cimenv.place` or without any."""
        from cimenv.core.progress import bar
        from cimenv.tasks import MonteCarloEvaluator
        from cimenv.tasks.bare import CHIPS, without_blocks
        from cimenv.tasks.own import own_task

        model, data = self.loaded()
        fields = self.fields() if blocks else self.fields(chips=CHIPS, report_chips=CHIPS)
        task, objects = own_task("this command", model, data, fields.pop("crossbar"), fields)
        return MonteCarloEvaluator(
            task if blocks else without_blocks(task), device=device, progress=bar, objects=objects
        )
