"""Every registry, and things of the user's own: in Python, YAML, on the command line, in keys, where they travel."""

import json
import subprocess
import sys
import textwrap

import cloudpickle
import pytest
import torch
import yaml

import cimenv
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.core.registry import where_is
from cimenv.crossbar import CrossbarConfig, program_array
from cimenv.crossbar.aihwkit import to_rpu_config
from cimenv.crossbar.converters import CONVERTERS
from cimenv.data import DataSet, load_data
from cimenv.networks import build_backbone
from cimenv.registries import REGISTRIES, register
from cimenv.search import run_search
from cimenv.tasks import MonteCarloEvaluator, PlacementSpace, TableEvaluator, Task, load_task
from cimenv.tasks.evaluators.travel import own_modules_by_value
from cimenv.tasks.stages.keys import physics_of

MINE = '''
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

import cimenv
from cimenv.compensation import Block
from cimenv.cost import CostTerm
from cimenv.crossbar.converters import Converter
from cimenv.crossbar.device import DeviceModel
from cimenv.search import Search
from cimenv.training import Recipe


class Faded(DeviceModel):
    """Devices that all lose the same share.

    Source: nobody.
    """

    kind: str = "faded"
    loss: float = 0.1
    scaled_fields = ("loss",)

    def program(self, w, generator, t_s=0.0, read=None):
        """Return what is left."""
        return w * (1 - self.loss)

    @property
    def relative_strength(self):
        """Return the loss."""
        return self.loss


class Smoothed(Recipe):
    """Label smoothing."""

    name: str = "smoothed"
    smoothing: float = 0.1

    def losses(self, network, x, y, done, generator):
        """Yield the smoothed cross-entropy."""
        yield F.cross_entropy(network.model(x), y, label_smoothing=self.smoothing)


class Ends(Search):
    """Evaluates the first option at the first and at the last site."""

    name = "ends"

    def __init__(self, objective, generator):
        super().__init__(objective, generator)
        empty = self.space.empty()
        self.left = [(1, *empty[1:]), (*empty[:-1], 1)]

    def propose(self):
        """Return both, once."""
        proposed, self.left = self.left, []
        return proposed


class Shift(Block):
    """A shift of every channel."""

    kind, sized = "shift", False

    def __init__(self, site, width):
        super().__init__(site, width)
        self.shift = nn.Parameter(torch.zeros(site.out_channels))

    @classmethod
    def weights(cls, site, width):
        """Return one a channel."""
        return site.out_channels

    @classmethod
    def macs(cls, site, width):
        """Return none."""
        return 0

    def forward(self, x, y, width):
        """Return the shifted output."""
        return y + (self.shift.view(-1, *[1] * (y.dim() - 2)) if self.conv else self.shift)


class Sign(Converter):
    """Comparators: three levels."""

    kind = "sign"

    @classmethod
    def levels(cls, values, bits, bound):
        """Return -bound, 0 or bound."""
        return values.sign() * bound


class Buffer(CostTerm):
    """Bits of a buffer."""

    name, unit = "buffer", "bit"

    @classmethod
    def of_site(cls, site, config):
        """Return those of one row of outputs."""
        return 8 * site.out_channels

    @classmethod
    def of_block(cls, option, site, config):
        """Return those of what a block adds to them."""
        return 8 * option.width(site)


def small(classes=10):
    """A network of two layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, classes))
'''


@pytest.fixture
def registries(monkeypatch):
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_own", dict(registry._own))
    return REGISTRIES


@pytest.fixture
def mine(registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "my_things.py").write_text(MINE)
    import my_things

    yield my_things
    del sys.modules["my_things"]


def test_every_entry_is_of_its_kind_and_says_what_it_is():
    for registry in REGISTRIES.values():
        rows = registry.rows()
        assert [row.name for row in rows] == list(registry.names)
        assert all(len(row.summary) > 5 for row in rows), registry.what
        assert all(registry._fits(entry) for _, entry in registry.items())
        if registry.tag == "kind" or registry.what in ("recipe", "search method"):
            assert all(registry.name_of(entry) == name == registry.written(entry) for name, entry in registry.items())


def test_a_device_of_ones_own_by_its_name_and_by_where_it_is(mine):
    given = [
        CrossbarConfig(device=mine.Faded(loss=0.2)),
        CrossbarConfig(device={"kind": "my_things:Faded", "loss": 0.2}),
        CrossbarConfig(device={"kind": "my_things.py:Faded", "loss": 0.2}),
    ]
    with pytest.raises(ConfigError, match="unknown device 'faded'; known: bit_sliced"):
        CrossbarConfig(device={"kind": "faded"})
    assert cimenv.register(mine.Faded) is mine.Faded
    given.append(CrossbarConfig(device={"kind": "faded", "loss": 0.2}))
    assert {config.canonical() for config in given} == {given[0].canonical()}
    assert json.loads(given[0].canonical())["device"] == {"kind": "my_things:Faded", "loss": 0.2}
    tasks = [Task(crossbar=given[0]), Task(crossbar={"device": {"kind": "faded", "loss": 0.3}}), Task()]
    assert len({task.key for task in tasks}) == 3
    for task in tasks:
        assert Task(**task.model_dump()) == task == Task.model_validate_json(task.model_dump_json())
        assert task.with_changes(chips=7).crossbar == task.crossbar


def test_a_new_version_of_a_class_is_another_key(mine):
    class Faded(mine.Faded):
        version: int = 2

    Faded.__module__, Faded.__qualname__ = mine.Faded.__module__, mine.Faded.__qualname__
    assert where_is(Faded) == where_is(mine.Faded)
    assert Task(crossbar={"device": Faded()}).key != Task(crossbar={"device": mine.Faded()}).key


def test_own_things_make_a_task_in_yaml(mine, tmp_path):
    fields = {
        "extends": "toy-4site",
        "backbone": "my_things:small",
        "crossbar": {"device": {"kind": "my_things.py:Faded", "loss": 0.5}},
        "recipe": {"name": "my_things.py:Smoothed", "epochs": 1},
        "options": [{"kind": "my_things:Shift"}, {"kind": "digital"}],
        "bank": {"steps": 3},
        "chips": 2,
        "images": 50,
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(fields))
    task = load_task(tmp_path / "task.yaml")
    assert task.recipe == mine.Smoothed(epochs=1) and task.options["dense"][0].label == "shift"
    evaluator = MonteCarloEvaluator(task)
    found = cimenv.search.run_search(evaluator, "my_things.py:Ends")
    assert found.method == "ends" and [step.placement for step in found.steps] == [(0, 0), (1, 0), (0, 1)]
    weights = evaluator.problem.network.weights()
    drawn = evaluator.problem.chips("val").all_weights(0)
    assert all(torch.equal(drawn[name], weights[name] * 0.5) for name in weights)


def test_own_things_on_the_command_line(mine, call, tmp_path):
    own = ("crossbar.device.kind=my_things.py:Faded", "crossbar.device.loss=0.3", "recipe=my_things.py:Smoothed")
    sets = [word for change in (*own, "recipe.epochs=1", "bank.steps=2", "chips=2") for word in ("--set", change)]
    code, out, err = call("search", "toy-4site", "--method", "my_things.py:Ends", *sets, "--json", "--no-fallback")
    assert code == 0, err
    assert json.loads(out)["method"] == "my_things.py:Ends"
    code, _, err = call("search", "toy-4site", "--set", "crossbar.device.kind=my_things.py:Fade")
    assert code == 2 and "cannot load 'my_things.py:Fade'" in err
    code, out, _ = call("search", "--help")
    assert code == 0 and all(name in " ".join(out.split()) for name in ("greedy", "annealing", "error_per_cost"))


def test_names_are_taken_once_and_functions_say_their_kind(mine):
    with pytest.raises(ConfigError, match="say which kind it is, one of backbone, block, converter, cost, data"):
        register(mine.small)
    with pytest.raises(ConfigError, match="backbone: the name 'lenet5' is taken; give small another name"):
        register(mine.small, "backbone", "lenet5")
    with pytest.raises(UnknownNameError, match=r"Unknown kind 'devise'; known: .* Did you mean 'device'\?"):
        register(mine.Faded, "devise")
    with pytest.raises(ConfigError, match=r"recipe: got Faded; give a subclass of cimenv\.training\.recipe\.Recipe"):
        register(mine.Faded, "recipe")
    register(mine.small, "backbone")
    assert build_backbone("small", {"classes": 3})[3].out_features == 3
    assert Task(backbone="small").backbone == "my_things:small"
    for thing, kind in ((mine.Smoothed, "recipe"), (mine.Ends, "search"), (mine.Shift, "block")):
        register(thing)
        assert REGISTRIES[kind].find(REGISTRIES[kind].name_of(thing)) is thing
    assert cimenv.training.recipe_named("smoothed", epochs=2) == mine.Smoothed(epochs=2)


def test_a_data_set_of_ones_own(registries):
    class Half(DataSet):
        """Half of the bundled images."""

        def load(self, root=None, download=False):
            """Return the bundled ones."""
            return load_data("fashion-mini")

    with pytest.raises(ConfigError, match="unknown data set 'half'"):
        Task(data="half")
    register(Half("half", (1, 28, 28), "Half of the bundled images."))
    assert load_task("toy-4site", ["data=half"]).sites() == load_task("toy-4site").sites()


def test_own_things_travel_by_value(mine, tmp_path):
    """A process that does not have their file gets them with a task, and knows them from then on."""
    register(mine.Faded)
    task = load_task("toy-4site", ["crossbar.device.kind=faded", "options=[{kind: 'my_things:Shift'}]"])
    with own_modules_by_value():
        (tmp_path / "task.pkl").write_bytes(cloudpickle.dumps(task))
    (tmp_path / "elsewhere").mkdir()
    ask = textwrap.dedent(
        """
        import pathlib, cloudpickle
        task = cloudpickle.loads(pathlib.Path("../task.pkl").read_bytes())
        changed = task.with_changes(chips=3)
        print(changed.crossbar.device.loss, changed.options["dense"][0].label, task.key)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0.1", "shift", task.key]


def test_a_converter_of_ones_own(mine):
    plain, own = (CrossbarConfig(preset="rasch2023", **adc) for adc in ({}, {"adc": "my_things.py:Sign"}))
    assert "adc" not in plain.model_dump() and own.model_dump()["adc"] == "my_things:Sign"
    assert physics_of(plain) != physics_of(own) and CrossbarConfig(**own.model_dump()) == own
    values = torch.tensor([-20.0, -0.1, 0.0, 3.0], requires_grad=True)
    converted = CONVERTERS.find(own.adc).convert(values, 8, 10.0)
    converted.sum().backward()
    assert converted.tolist() == [-10.0, -10.0, 0.0, 10.0] and values.grad.tolist() == [0.0, 1.0, 1.0, 1.0]
    weights, x = torch.eye(4), torch.rand(2, 4)
    config = CrossbarConfig(analog=True, device={"kind": "ideal"}, adc="my_things:Sign", adc_bound=1.0)
    assert set(program_array(weights, config).mvm(x, 1.0).unique().tolist()) <= {0.0, 1.0}
    with pytest.raises(ConfigError, match="adc: got 'my_things:Sign'; to_rpu_config knows uniform"):
        to_rpu_config(CrossbarConfig(analog=True, device={"kind": "ideal"}, adc="my_things:Sign"))


LINES = {  # what one adds to a registry, beside the file
    "device": ("faded", "my_things:Faded"),
    "recipe": ("smoothed", "my_things:Smoothed"),
    "search": ("ends", "my_things:Ends"),
    "block": ("shift", "my_things:Shift"),
    "converter": ("sign", "my_things:Sign"),
    "cost": ("buffer", "my_things:Buffer"),
    "backbone": ("small", "my_things:small"),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_thing_of_ours_is_one_file_and_one_line(mine, monkeypatch, kind):
    name, path = LINES[kind]
    registry = REGISTRIES[kind]
    registry._entries[name] = path
    monkeypatch.setattr(registry, "_built_in", (*registry.built_in, name))
    assert registry.find(name) is getattr(mine, path.partition(":")[2]) and registry.names[-1] == name
    with pytest.raises(UnknownNameError, match=f"known: .*{name}"):
        registry.find("nothing")
    assert registry.rows()[-1].name == name and registry.rows()[-1].summary
    fields = {
        "device": {"crossbar": {"device": {"kind": name}}},
        "recipe": {"recipe": name},
        "block": {"options": [{"kind": name}]},
        "converter": {"crossbar": {"adc": name}},
        "cost": {"budget": {name: 0.1}},
        "backbone": {"backbone": name},
        "search": {},
    }[kind]
    task = Task(**fields)
    assert Task(**task.model_dump()) == task and "my_things" not in task.model_dump_json()  # keys hold its name
    if kind == "search":
        assert run_search(TableEvaluator("lenet5-fashion-mini"), name).evaluations == 3
    if kind == "cost":
        assert PlacementSpace(load_task("toy-4site", [f"budget.{name}=0.1"])).term_names[-1] == name
