"""A task: everything that fixes a problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from cimenv.compensation.options import BlockOption, Options, options_by_type
from cimenv.core.config import Frozen, canonical, digest, merged
from cimenv.core.errors import ConfigError, DataError, known_name
from cimenv.core.files import digest_of_file
from cimenv.core.global_state import own_torch_state
from cimenv.core.precision import Precision
from cimenv.core.registry import Registry
from cimenv.core.strict import WHOLE
from cimenv.cost.term import COSTS
from cimenv.crossbar.config import CrossbarConfig
from cimenv.crossbar.mapping import MappedNetwork, map_network
from cimenv.crossbar.sites import Site, SiteType
from cimenv.data import DATA_SETS, image_shape
from cimenv.evaluation.intervals import checked_quantile
from cimenv.evaluation.metrics import METRICS
from cimenv.evaluation.protection import Protection
from cimenv.evaluation.record import OverTimes
from cimenv.evaluation.statistics import STATISTICS, statistic_named
from cimenv.evaluation.worst_case import WorstCaseSearch
from cimenv.networks import BACKBONES, build_backbone, without_weights
from cimenv.training import BankRecipe, Recipe, TunedRecipe, recipe_named

MOST_CHIPS, MOST_IMAGES = 100_000, 1_000_000  # of an evaluation


class Task(Frozen):
    """Backbone, data, crossbar, recipe, options, cost, metric, statistic and fidelities: what fixes a problem.

    `options` names the block options of every site type (a plain list serves all types); option o of a site is the
    o-th of its type's list. `cost_weights` makes the scalar cost of the cost shares; `budget` caps single terms.
    """

    name: str = "custom"
    description: str = ""
    backbone: str = Field("lenet5", description="a registered name, or package.module:factory")
    backbone_args: dict[str, Any] = {}
    weights: str | None = Field(None, description="safetensors file of trained weights; then no recipe runs")
    data: str = Field("fashion-mini", description="a registered name, or package.module:dataset")
    crossbar: CrossbarConfig = CrossbarConfig()
    trained_for: CrossbarConfig | None = Field(
        None, description="crossbar that a recipe which fine-tunes trains for; None: the task's"
    )
    recipe: Recipe = Field(default_factory=lambda: recipe_named("lipschitz"))
    reference: Recipe = Field(
        default_factory=lambda: recipe_named("standard"),
        description="of acc_ref; what a recipe that fine-tunes starts from",
    )
    training_seed: int = Field(0, ge=0, le=WHOLE)
    training_device: Literal["cpu", "cuda"] = Field("cpu", description="where networks and blocks are trained")
    training_precision: Precision = Field("float32", description="of products in training")
    training_threads: int = Field(2, ge=1, le=256)
    options: dict[SiteType, tuple[BlockOption, ...]] = {}
    protection: Protection = Field("weight_norm", description="how `digital` under size 1 chooses its channels")
    candidates: tuple[str, ...] | None = Field(None, description="names of candidate sites; None is all")
    bank: BankRecipe = BankRecipe()
    tuned: TunedRecipe = TunedRecipe()
    cost_weight: float = Field(0.3, ge=0)
    cost_weights: dict[str, float] = {"energy": 0.5, "macs": 0.5}
    budget: dict[str, float] = {}
    metric: str = Field("accuracy", description="what one chip is worth: a registered name, or package.module:Class")
    statistic: str = Field("mean", description="what a set of chips is worth: a registered name, or one of yours")
    percentile: float = Field(0.05, gt=0, lt=1)
    worst_case: WorstCaseSearch = Field(WorstCaseSearch(), description="attacks of a report; a search uses quick ones")
    times_s: tuple[float, ...] = Field((0.0,), min_length=1, description="seconds after programming")
    over_times: OverTimes = Field("mean", description="a chip counts with its mean over times, or at the worst time")
    chips: int = Field(25, ge=1, le=MOST_CHIPS, description="validation chips per evaluation in a search")
    images: int = Field(1000, ge=1, le=MOST_IMAGES, description="validation images per evaluation in a search")
    chip_seed: int = Field(0, ge=0, le=WHOLE)
    precision: Precision = Field(
        "float32", description="of products on chips in evaluations; clean accuracies and calibrations are single"
    )
    memory_limit: float = Field(4.0, gt=0, description="GiB that an evaluation may hold, besides data and torch itself")
    report_chips: int = Field(300, ge=1, le=MOST_CHIPS, description="test chips of a report")
    report_images: int = Field(
        10_000, ge=1, le=MOST_IMAGES, description="test images of a report, evenly spaced over the split"
    )
    _file: str | None = PrivateAttr(None)  # of others, that it was read from

    @model_validator(mode="before")
    @classmethod
    def _shorthands(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = written_out(fields)
        if (metric := fields.get("metric")) in STATISTICS:  # before, the field of this name
            raise ValueError(f"metric is {metric}, which is what a set of chips is worth; write statistic: {metric}")
        for field, default in (("recipe", "lipschitz"), ("reference", "standard")):
            recipe = fields.get(field)
            if isinstance(recipe, dict):
                fields[field] = {"name": default, **recipe}
        return fields

    @field_validator("cost_weights", "budget")
    @classmethod
    def _known_terms(cls, terms: dict[str, float]) -> dict[str, float]:
        """Return amounts by the names of terms as keys hold them: one of the user's own is where it is."""
        return {COSTS.written(COSTS.find(term)): value for term, value in terms.items()}

    @field_validator("backbone")
    @classmethod
    def _by_where_it_is(cls, name: str) -> str:
        """Return the name of a backbone as keys hold it: a registered one's is where it is."""
        return BACKBONES.written(BACKBONES[name], name) if name in BACKBONES else name

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        return METRICS.written(METRICS.find(name))

    @field_validator("statistic")
    @classmethod
    def _known_statistic(cls, name: str) -> str:
        return STATISTICS.written(STATISTICS.find(name))

    @model_validator(mode="after")
    def _check(self) -> Task:
        for field, terms in (("cost_weights", self.cost_weights), ("budget", self.budget)):
            for term, value in terms.items():
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{field}.{term} is {value}; give a finite number of at least 0")
        if ":" not in self.data:
            known_name("data set", self.data, DATA_SETS)
        if min(self.times_s) < 0 or len(set(self.times_s)) < len(self.times_s):
            raise ValueError(f"times_s is {self.times_s}; give different times of at least 0 seconds")
        for device in self.crossbar.devices():
            known = device.known_times_s
            if unknown := [t_s for t_s in self.times_s if known is not None and t_s not in known]:
                times = ", ".join(f"{t_s:g}" for t_s in known or ())
                raise ValueError(f"times_s holds {unknown[0]:g}; '{device.kind}' devices are known at {times} s")
        if self.reference.fine_tunes:
            raise ValueError(f"reference is {self.reference.name}, which itself starts from the reference")
        checked_quantile(self.percentile)
        statistic = statistic_named(self.statistic)
        if not statistic.judges:
            raise ValueError(f"statistic is {self.statistic}, which judges nothing; take mean, or mean_minus_std")
        if self.chips < (needed := statistic.fewest_chips(self.percentile)):
            raise ValueError(f"chips is {self.chips}; a {self.percentile:g}-quantile needs at least {needed}")
        fine_tuned_for = [self.trained_for] if self.trained_for and self.recipe.fine_tunes else []
        analog, trained_analog = self.crossbar.any_analog, any(config.any_analog for config in fine_tuned_for)
        if self.precision == "bfloat16" and (analog or not statistic.of_chips):
            raise ValueError("precision is bfloat16, too coarse for converters and for attacks; take float32")
        if self.training_precision == "bfloat16" and (analog or trained_analog):
            raise ValueError("training_precision is bfloat16, too coarse for converters; take float32")
        if not statistic.of_chips and analog:
            raise ValueError("statistic worst_case attacks weights under exact products; set crossbar.analog to false")
        if not statistic.of_chips and self.crossbar.batch_norm == "per_chip":
            raise ValueError("statistic worst_case has no chip to calibrate on; take batch_norm none or shared")
        return self

    @property
    def key(self) -> str:
        """Return a digest of every field that changes the numbers (not name, description, threads, memory)."""
        idle = {"name", "description", "training_threads", "training_device", "memory_limit"}
        fields = self.model_dump(mode="json", exclude=idle)
        for field in ("precision", "training_precision"):
            if fields[field] == "float32":  # what tables computed in before it was a choice
                del fields[field]
        if self.weights is not None and Path(self.weights).is_file():
            fields["weights"] = digest_of_file(self.weights)
        return digest(canonical(fields))

    def __getstate__(self) -> dict[Any, Any]:
        named: list[tuple[Registry[Any], str]] = [(METRICS, self.metric), (STATISTICS, self.statistic)]
        named += [(COSTS, term) for term in {**self.cost_weights, **self.budget}]
        own = [registry.find(name) for registry, name in named if not registry.is_built_in(name)]
        return {**super().__getstate__(), "own": own} if own else super().__getstate__()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        for each in state.pop("own", ()):  # classes of the user's own, whose modules may have come with the pickle
            registries: tuple[Registry[Any], ...] = (METRICS, STATISTICS, COSTS)
            next(registry for registry in registries if registry.tells(each)).written(each)
        super().__setstate__(state)

    def sites(self) -> tuple[Site, ...]:
        """Return the mapped sites in call order, from shapes alone: nothing is trained.

        Raises:
            MappingError: no layer can be mapped.
            DataError: the data's images do not pass through the backbone.
            ConfigError: the task was read from a file of others, and names a module.
        """
        return self.mapping().sites

    def mapping(self) -> MappedNetwork:
        """Return the mapped backbone, of shapes alone where that is possible: nothing is trained.

        Raises:
            MappingError: no layer can be mapped.
            DataError: the data's images do not pass through the backbone.
            ConfigError: the task was read from a file of others, and names a module.
        """
        self.check_imports()
        return _mapped(self.backbone, canonical(self.backbone_args), self.data, self.crossbar.digital)

    def block_options(self) -> Options:
        """Return the block options of every site."""
        return options_by_type(self.sites(), self.options)

    def with_changes(self, **changes: Any) -> Task:
        """Return a copy with other fields, checked again; nested fields by mappings."""
        changed = Task(**merged(self.model_dump(mode="json"), changes))
        return changed if self._file is None else changed.as_read_from(self._file)

    def as_read_from(self, path: str | Path) -> Task:
        """Return the task as a file of others holds it: a module that it names is never imported."""
        if ":" not in f"{self.backbone}{self.data}":
            return self
        read = self.model_copy()
        read._file = str(path)
        return read

    @property
    def read_from(self) -> str | None:
        """Return the file of others that the task was read from, where it names a module."""
        return self._file

    def check_imports(self) -> None:
        """Refuse a task that would import what a file of others names.

        Raises:
            ConfigError: it was read from a file, and its backbone or data set is none of ours.
        """
        if self._file is None:
            return
        field, name = next((f, n) for f, n in (("backbone", self.backbone), ("data", self.data)) if ":" in n)
        raise ConfigError(
            f"{self._file} names '{name}' as its {field}, and what a file names is not imported; if you trust it, "
            "give trust=True, or --trust to the command."
        )


def written_out(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with mappings where a name of a recipe, or one list of options, stands for them."""
    written = dict(fields)
    for field in ("recipe", "reference"):
        if isinstance(written.get(field), str):
            written[field] = {"name": written[field]}
    if isinstance(written.get("options"), list | tuple):
        written["options"] = dict.fromkeys(("conv", "dense"), written["options"])
    return written


@lru_cache(maxsize=64)
@own_torch_state()
def _mapped(backbone: str, arguments: str, data: str, digital: tuple[str, ...]) -> MappedNetwork:
    shape, crossbar = image_shape(data), CrossbarConfig(digital=digital)
    try:
        return map_network(without_weights(backbone, json.loads(arguments)), crossbar, shape)
    except (DataError, NotImplementedError):  # a network whose control flow needs values
        return map_network(build_backbone(backbone, json.loads(arguments)), crossbar, shape)
