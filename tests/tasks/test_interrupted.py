"""Whatever a call is doing when it is interrupted, the user's network is afterwards what it was."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import cimenv
from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import BlockOption, options_by_type
from cimenv.core.progress import silent
from cimenv.crossbar import (
    Chips,
    calibrated_for_chip,
    map_network,
    preset,
    programmed,
    recalibrate_shared,
)
from cimenv.crossbar.saturation import saturation
from cimenv.evaluation.engine import Engine
from cimenv.evaluation.protection import channel_scores
from cimenv.evaluation.segments import SegmentedNetwork
from cimenv.evaluation.worst_case import AttackTarget, WorstCaseSearch, worst_case
from cimenv.training import BankRecipe, fit_bank

GENERATOR = torch.Generator().manual_seed(0)
PROTOTYPES = torch.randn(3, 1, 6, 6, generator=GENERATOR)


def images(count):
    labels = torch.arange(count) % 3
    return cimenv.ImageSet(PROTOTYPES[labels] + torch.randn(count, 1, 6, 6, generator=GENERATOR), labels)


DATA = cimenv.DataSplits("tiny", images(24), images(12), images(12), classes=3)


class Hooked(nn.Sequential):
    """A network in mixed modes, with a hook and an instance-level forward of the user's, partly frozen."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(32, 3))
        self.train()
        self[1].eval()
        self[0].weight.requires_grad_(False)
        self[2].register_forward_hook(lambda module, args, output: None)


def traces(model):
    """Everything of a model that a call may change."""
    hooks = [len(getattr(m, name)) for m in model.modules() for name in vars(m) if name.endswith("_hooks")]
    return {
        "modes": [module.training for module in model.modules()],
        "learning": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad is None for parameter in model.parameters()],
        "kinds": [type(parameter) for module in model.modules() for parameter in module._parameters.values()],
        "momentum": model[1].momentum,
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "hooks": hooks,
        "state": {name: value.clone() for name, value in model.state_dict().items()},
    }


def same(one, other):
    states = one.pop("state"), other.pop("state")
    assert one == other
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def analog(model):
    network = map_network(copy.deepcopy(model), preset("rasch2023"), DATA.image_shape).calibrated(DATA.train.inputs())
    return replace(network, model=model)


def exact(model):
    return map_network(model, preset("lognormal"), DATA.image_shape)


def banked(network):
    affine = (BlockOption(kind="affine"),)
    return CompensationBank(options_by_type(network.sites, {"conv": affine, "dense": affine}))


def run_engine(model):
    network = exact(model)
    chips = Chips(network, 0, "val")
    segments = SegmentedNetwork(model, network.sites)
    Engine(segments, chips, banked(network), DATA.val.inputs(), DATA.val.labels).run([(0, 0), (1, 1)], range(2))


def attack(model):
    target = AttackTarget(exact(model), DATA.val.inputs(), DATA.val.labels)
    worst_case(target, WorstCaseSearch(bound=0.03, images=12).quick(), torch.Generator().manual_seed(0))


def fit(model):
    network = exact(model)
    generator = torch.Generator().manual_seed(0)
    fit_bank(network, banked(network), DATA.train, BankRecipe(steps=2, batch_size=8), generator, silent)


def run_saturation(model):
    network = analog(model)
    saturation(network, DATA.val.inputs(), network.program(torch.Generator().manual_seed(0)))


def run_programmed(model):
    network = exact(model)
    with programmed(model, network.program(torch.Generator().manual_seed(0))) as chip, torch.no_grad():
        chip[5](torch.rand(2, 32))


OPERATIONS = {
    "calibrated": lambda model: map_network(model, preset("rasch2023"), DATA.image_shape).calibrated(DATA.val.inputs()),
    "map_network": lambda model: exact(model),
    "programmed": run_programmed,
    "saturation": run_saturation,
    "recalibrate_shared": lambda model: recalibrate_shared(
        model, [Chips(exact(model), 0, "train").all_weights(k) for k in range(2)], DATA.train.inputs(), block=8
    ),
    "calibrated_for_chip": lambda model: calibrated_for_chip(
        model, Chips(exact(model), 0, "train").all_weights(0), DATA.train.inputs()
    ),
    "second_derivative": lambda model: channel_scores(exact(model), DATA.train, "second_derivative"),
    "damage": lambda model: channel_scores(exact(model), DATA.train, "damage"),
    "engine": run_engine,
    "attack": attack,
    "fit_bank": fit,
}
IN_PLACE = {"recalibrate_shared"}  # what changes the statistics if it ends


class Interrupt(TorchDispatchMode):
    """Raise KeyboardInterrupt at one of torch's operations."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.count = at, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        if self.count == self.at:
            raise KeyboardInterrupt
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_interrupted_call_leaves_nothing(name):
    operation, model = OPERATIONS[name], Hooked()
    before = traces(model)
    other = copy.deepcopy(model)
    with Interrupt() as whole:
        operation(other)
    points = torch.randint(1, whole.count + 1, (12,), generator=torch.Generator().manual_seed(len(name))).tolist()
    for at in (1, 2, *points, whole.count):
        with pytest.raises(KeyboardInterrupt), Interrupt(at):
            operation(model)
        same(traces(model), copy.copy(before))


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - IN_PLACE))
def test_a_call_that_ends_leaves_nothing(name):
    model = Hooked()
    before = traces(model)
    OPERATIONS[name](model)
    same(traces(model), before)
