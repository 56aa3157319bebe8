"""Attacks against closed forms and each other; the certificate against attacks; weights that stay as they were."""

import copy
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cimenv.compensation.bank import CompensationBank
from cimenv.compensation.options import BlockOption, options_by_type
from cimenv.core.errors import ConfigError, MappingError
from cimenv.core.progress import silent
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.evaluation.worst_case import LOSSES, AttackTarget, WorstCaseSearch, certified_correct, worst_case
from cimenv.evaluation.worst_case.lagrangian import Lagrangian, largest, shrunk
from cimenv.evaluation.worst_case.pgd import Pgd, published_margin
from cimenv.evaluation.worst_case.search import Search
from cimenv.networks import build_backbone

SMALL = {"steps": 5, "restarts": 1, "random_chips": 4, "published_steps": 5, "lagrangian_rounds": 2}


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def searching(target, bound, generator=None):
    return Search(target, bound, generator or seeded(), lambda steps=1: None)


def linear_target(images=300, features=12, shift=6.0):
    """Two classes, well apart, so that no hinge is active at small bounds."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, 2, bias=False))
    labels = torch.randint(0, 2, (images,))
    x = torch.randn(images, features)
    difference = (model[0].weight[1] - model[0].weight[0]).detach()
    x += (2.0 * labels - 1)[:, None] * shift * difference / difference.norm()
    return AttackTarget(map_network(model, CrossbarConfig(), (features,)), x, labels)


def random_net(number, classes=4):
    torch.manual_seed(number)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 16),
        nn.ReLU(),
        nn.Linear(16, classes),
    )
    x = torch.rand(120, 1, 8, 8)
    with torch.no_grad():
        labels = model(x).argmax(-1)  # every image is correct at first
    return AttackTarget(map_network(model.requires_grad_(False), CrossbarConfig(), (1, 8, 8)), x, labels)


def test_losses_by_hand():
    logits, labels = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]]), torch.tensor([0, 2])
    assert LOSSES["margin"](logits, labels).tolist() == [2.0, 0.0]
    assert LOSSES["dlr"](logits, labels).tolist() == pytest.approx([2 / 3, -1 / 2])
    assert LOSSES["ce"](logits, labels).tolist() == pytest.approx([-0.169846, -1.407606], abs=1e-6)
    gaps = torch.tensor([2.0, -1.0])
    assert LOSSES["count"](logits, labels).tolist() == pytest.approx(torch.sigmoid(gaps * 3 / 1.5).tolist())


def test_the_true_logit_is_excluded_even_when_all_logits_are_negative():
    # Masking with 0 instead of -inf, as in published code, would give max(-1 - 0, 0) = 0 here.
    assert LOSSES["margin"](torch.tensor([[-1.0, -3.0]]), torch.tensor([0])).tolist() == [2.0]


def test_pgd_reaches_the_closed_form_of_the_two_class_linear_case():
    target, bound = linear_target(), 0.05
    found = searching(target, bound)
    published_margin(4).run(found, "m", 0, target.zero())
    weight, scale = target.nominal["0"].double(), target.scales["0"]
    signs = 2.0 * target.labels.double() - 1
    x = target.images.double()
    clean = (signs * (x @ (weight[1] - weight[0]))).sum()
    closed = clean - 2 * bound * scale * (signs[:, None] * x).sum(0).abs().sum()  # physics, section 4
    end = target.zero()
    for _ in range(4):
        gradient = target.gradient(end, "margin")
        end = {name: value - bound / 4 * gradient.by_site[name].sign() for name, value in end.items()}
    moved = weight + scale * end["0"].double()
    assert float((signs * (x @ (moved[1] - moved[0]))).sum()) == pytest.approx(float(closed), rel=1e-6)


class Watching(Search):
    """Also keeps the smallest summed margin of all visited deviations."""

    margin = float("inf")

    def visit(self, member, start, step, deviation, correct):
        self.margin = min(self.margin, self.target.gradient(deviation, "margin").loss)
        return super().visit(member, start, step, deviation, correct)


@pytest.mark.parametrize("bound", [0.03, 0.1])
def test_lagrangian_and_pgd_agree_on_a_convex_toy(bound):
    target = linear_target(images=1000, shift=4.0)
    pgd, lagrangian = (Watching(target, bound, seeded(), lambda steps=1: None) for _ in range(2))
    Pgd("margin", 20).run(pgd, "pgd", 0, target.zero())
    Lagrangian(rounds=6, passes=12).run(lagrangian, "lagrangian")
    assert pgd.margin < 0.97 * target.gradient(target.zero(), "margin").loss
    assert lagrangian.margin == pytest.approx(pgd.margin, rel=0.01)


@pytest.mark.parametrize("step", [0.1, 1.0, 2.9, 3.1])
def test_the_proximal_step_of_the_maximum_solves_its_problem(step):
    v = torch.tensor([[2.0, -0.5, 0.1], [0.3, -0.1, 0.0]])
    found = shrunk({"a": v[0], "b": v[1]}, step)
    d = torch.stack([found["a"], found["b"]])

    def cost(x):
        return step * float(x.abs().max()) + 0.5 * float((x - v).square().sum())

    for seed in range(200):  # no neighbour is better
        assert cost(d) <= cost(d + 0.05 * torch.randn(2, 3, generator=seeded(seed))) + 1e-6


def test_the_multiplier_of_the_lagrangian_decides_how_far_it_goes():
    target = random_net(4)
    reached = [largest(Lagrangian().descended(searching(target, 0.05), c)) / 0.05 for c in (0.1, 1, 10, 100)]
    assert reached == sorted(reached) and reached[0] < 0.1 and reached[-1] > 1


@pytest.mark.parametrize("number", range(3))
def test_ensemble_is_the_minimum_of_its_members_and_stays_in_the_box(number):
    target = random_net(number)
    found = worst_case(target, WorstCaseSearch(bound=0.05, **SMALL), seeded(), transferred=[target.zero()])
    assert found.accuracy == min(found.members.values()) == found.members[found.member]
    assert set(found.members) == {
        *(f"pgd_{loss}" for loss in LOSSES),
        *("pgd_published", "random_chips", "lagrangian", "transfer", "refined"),
    }
    assert target.accuracy(found.deviation) == found.accuracy
    assert max(float(d.abs().max()) for d in found.deviation.values()) <= 0.05 * (1 + 1e-6)
    assert [point.worst for point in found.curve] == list(
        np.minimum.accumulate([point.accuracy for point in found.curve])
    )


def test_more_budget_never_finds_less():
    target = random_net(3)
    generous = {**SMALL, "steps": 30, "random_chips": 10}
    weak = worst_case(target, WorstCaseSearch(bound=0.05).quick(), seeded())
    strong = worst_case(target, WorstCaseSearch(bound=0.05, **generous), seeded())
    assert strong.accuracy <= weak.accuracy < 1.0


NUMBERS = [pytest.param(number, marks=[pytest.mark.slow] * (number >= 6)) for number in range(20)]


@pytest.mark.parametrize("number", NUMBERS)
def test_certificate_never_exceeds_what_attacks_leave(number):
    target = random_net(number)
    for bound in (0.001, 0.01, 0.05):
        attacked = worst_case(target, WorstCaseSearch(bound=bound, **{**SMALL, "lagrangian_rounds": 0}), seeded())
        certified = certified_correct(target.network, target.images, target.labels, bound)
        assert certified <= attacked.correct


def test_certificate_is_exact_for_one_dense_layer():
    # Two classes: the margin of image n falls by at most 2 th S ||x_n||_1, and a corner of the box reaches that.
    target = linear_target(shift=1.0)
    bound, scale = 0.2, target.scales["0"]
    x, weight = target.images.double(), target.nominal["0"].double()
    margins = (2.0 * target.labels - 1) * (x @ (weight[1] - weight[0])) - 2 * bound * scale * x.abs().sum(1)
    assert certified_correct(target.network, target.images, target.labels, bound) == int((margins > 0).sum())
    assert 0 < int((margins > 0).sum()) < 300


def test_certificate_bounds_sums_norms_and_pooling():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm, self.act, self.head = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(4, 3)

        def forward(self, x):
            x = self.act(self.norm(self.first(x)))
            y = self.second(x)
            y += x
            return self.head(torch.relu(y).mean((2, 3)))

    torch.manual_seed(1)
    model = Residual().eval().requires_grad_(False)
    with torch.no_grad():  # statistics and scales as after training, one of them negative
        model.norm.weight.copy_(torch.tensor([1.5, -1.0, 0.7, -0.4]))
        model.norm.running_mean.normal_()
    x = torch.rand(60, 1, 8, 8)
    labels = model(x).argmax(-1)
    network = map_network(model, CrossbarConfig(), (1, 8, 8))
    assert certified_correct(network, x, labels, 1e-6) == 60
    attacked = worst_case(AttackTarget(network, x, labels), WorstCaseSearch(bound=0.02, **SMALL), seeded())
    assert certified_correct(network, x, labels, 0.02) <= attacked.correct


@pytest.mark.parametrize("number", range(10))
def test_certificate_holds_with_negative_batch_norm_scales_and_circular_padding(number):
    torch.manual_seed(number)
    first = [nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    model = nn.Sequential(*first, nn.Flatten(), nn.Linear(256, 3)).eval().requires_grad_(False)
    model[1].weight.copy_(-torch.rand(4))
    x = torch.rand(80, 1, 8, 8)
    labels = model(x).argmax(-1)
    network = map_network(model, CrossbarConfig(), (1, 8, 8))
    for bound in (0.005, 0.02):
        attacked = worst_case(AttackTarget(network, x, labels), WorstCaseSearch(bound=bound, **SMALL), seeded())
        assert certified_correct(network, x, labels, bound) <= attacked.correct


def test_certificate_refuses_what_it_cannot_bound():
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 2))
    network = map_network(model, CrossbarConfig(), (4,))
    with pytest.raises(MappingError, match="Softmax"):
        certified_correct(network, torch.rand(3, 4), torch.zeros(3, dtype=torch.long), 0.01)
    with pytest.raises(ConfigError, match=r"got 0.*\(0, 1\]"):
        certified_correct(network, torch.rand(3, 4), torch.zeros(3, dtype=torch.long), 0)


def test_gradients_flow_through_blocks_and_spare_digital_layers():
    target = random_net(5)
    kinds = ({"kind": "full", "size": 0.5}, {"kind": "digital"}, {"kind": "digital", "size": 0.5})
    here = tuple(BlockOption(**kind) for kind in kinds)
    options = options_by_type(target.network.sites, {"conv": here, "dense": here})
    torch.manual_seed(0)
    bank = CompensationBank(options)
    for block in bank.parameters():
        block.data += 0.1 * torch.randn_like(block)
    compensated = AttackTarget(target.network, target.images, target.labels, bank.requires_grad_(False), (1, 2, 3))
    gradient = compensated.gradient(target.zero(), "ce").by_site
    first, second, last = gradient.values()
    assert second.abs().sum() == 0  # digital
    assert (last.flatten(1).abs().sum(1) == 0).sum() == 2  # two of four channels are digital
    name, index, step = "0", (0, 0, 1, 1), 1e-3  # finite differences through the block
    ends = []
    for sign in (1, -1):
        moved = target.zero()
        moved[name][index] = sign * step
        ends.append(compensated.gradient(moved, "ce").loss)
    assert float(first[index]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.02)


def test_result_does_not_depend_on_threads():
    torch.manual_seed(0)
    model = build_backbone("toy_cnn", {}).requires_grad_(False)
    x, y = torch.rand(700, 1, 28, 28), torch.randint(0, 10, (700,))
    network = map_network(model, CrossbarConfig(), (1, 28, 28))
    config = WorstCaseSearch(bound=0.05, **SMALL)
    one, two = (worst_case(AttackTarget(network, x, y, threads=t), config, seeded()) for t in (1, 2))
    assert one.correct == two.correct and one.members == two.members
    assert all(torch.equal(one.deviation[name], two.deviation[name]) for name in one.deviation)


class InterruptError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 7, 30, 45])
def test_an_interrupted_attack_leaves_no_trace(after):
    target = random_net(0)
    model = target.network.model
    before = copy.deepcopy(model.state_dict())
    parameters = dict(model.named_parameters())
    count = 0

    @contextmanager
    def interrupting(description, total, done=0):
        def advance(steps=1):
            nonlocal count
            count += 1
            if count == after:
                raise InterruptError

        yield advance

    with pytest.raises(InterruptError):
        worst_case(target, WorstCaseSearch(bound=0.05, **SMALL), seeded(), progress=interrupting)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(parameter is dict(model.named_parameters())[name] for name, parameter in parameters.items())
    assert not any(module._forward_hooks for module in model.modules())


def test_an_error_inside_the_network_leaves_no_trace():
    target = random_net(1)
    weights = [module.weight for module in target.network.model.modules() if hasattr(module, "weight")]

    def broken(module, args, output):
        raise RuntimeError("broken")

    handle = target.network.model[1].register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="broken"):
        target.gradient(target.zero(), "ce")
    handle.remove()
    after = [module.weight for module in target.network.model.modules() if hasattr(module, "weight")]
    assert all(a is b for a, b in zip(weights, after, strict=True))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"bound": 0}, "bound: got 0"),
        ({"bound": 1.2}, "bound: got 1.2"),
        ({"losses": []}, "losses: got \\[\\]"),
        ({"losses": ["hinge"]}, "losses.0: got 'hinge'"),
        ({"steps": 0}, "steps: got 0"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(fields, named):
    with pytest.raises(ConfigError, match=named):
        WorstCaseSearch(**fields)


def test_a_layer_of_zeros_is_refused_by_name():
    target = random_net(0)
    target.network.model[4].weight.zero_()
    with pytest.raises(MappingError, match="Layer 4 is all zeros"):
        AttackTarget(target.network, target.images, target.labels)


def test_transferred_deviations_must_fit():
    target = random_net(0)
    with pytest.raises(ConfigError, match="transferred"):
        worst_case(target, WorstCaseSearch(**SMALL), seeded(), transferred=[{"0": torch.zeros(1)}], progress=silent)


def test_site_shares_sum_to_one():
    target = random_net(2)
    found = worst_case(target, WorstCaseSearch(bound=0.1, **SMALL), seeded())
    shares = target.site_shares(found.deviation)
    assert sum(shares) == pytest.approx(1.0) and min(shares) >= 0
    assert target.site_shares(target.zero()) == [0.0, 0.0, 0.0]


def test_the_lagrangian_stays_among_numbers(monkeypatch):
    """Where the network overflows, a descent ends: not a number would be taken for the first class."""
    target = random_net(3)
    seen = []
    plain = AttackTarget.gradient

    def overflowing(self, deviation, loss, blocks=None):
        found = plain(self, deviation, loss, blocks)
        if max(float(value.abs().max()) for value in deviation.values()) > 0.2:
            seen.append(True)
            return replace(found, by_site={name: slope * torch.nan for name, slope in found.by_site.items()})
        return found

    monkeypatch.setattr(AttackTarget, "gradient", overflowing)
    found = worst_case(target, WorstCaseSearch(bound=0.05, **{**SMALL, "lagrangian_rounds": 6}), seeded())
    assert seen and all(bool(value.isfinite().all()) for value in found.deviation.values())


def test_a_transferred_deviation_must_be_of_numbers():
    target = random_net(3)
    zero = target.zero()
    name = next(iter(zero))
    with pytest.raises(ConfigError, match=f"deviation of {name} holds NaN or infinity"):
        worst_case(target, WorstCaseSearch(**SMALL), seeded(), transferred=[{**zero, name: zero[name] / 0}])
