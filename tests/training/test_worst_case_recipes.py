"""Recipes against the worst case: every step by hand on a tiny network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.core.errors import ConfigError
from cimenv.core.progress import silent
from cimenv.crossbar import CrossbarConfig, map_network, programmed
from cimenv.crossbar.devices import Gaussian
from cimenv.crossbar.variation import censored_moments
from cimenv.data import DataSplits, ImageSet
from cimenv.evaluation.worst_case import LOSSES, AttackTarget, WorstCaseSearch, worst_case
from cimenv.training import recipe_named
from cimenv.training.a_trice import ATrice
from cimenv.training.adversarial import Adversarial
from cimenv.training.adversary import descended, full_scales
from cimenv.training.gaussian import GaussianNoise
from cimenv.training.sam import Sam
from cimenv.training.training_run import TrainingRun
from cimenv.training.trice import Trice, _shrunk


def images(count, seed):
    """Three classes of 4 x 4 images: row k is bright in class k, under noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randn(count, 1, 4, 4, generator=draw) * 0.5
    pixels[torch.arange(count), 0, labels] += 1.0
    return ImageSet(pixels, labels)


@pytest.fixture
def data():
    return DataSplits("synthetic", images(900, 0), images(300, 1), images(3, 2), 3)


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def network():
    return map_network(small_net(), CrossbarConfig(), (1, 4, 4))


def batch(data, count=30):
    return data.train.inputs(slice(count)), data.train.labels[:count]


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def nominal(network):
    return {name: weight.clone() for name, weight in network.weights().items()}


@pytest.mark.parametrize("inner_loss", ["margin", "ce"])
@pytest.mark.parametrize("start", ["mean", "sample"])
def test_a_trice_losses_by_hand(network, data, inner_loss, start):
    x, y = batch(data)
    recipe = ATrice(sigma=0.2, threshold=1.0, epsilon=0.05, alpha=0.3, inner_loss=inner_loss, start=start, ramp=0)
    adversarial, noisy = (float(loss.detach()) for loss in recipe.losses(network, x, y, 1.0, seeded()))
    draws, weights, scales = seeded(), nominal(network), full_scales(network)
    device = Gaussian(sigma=0.2, threshold=1.0)
    if start == "mean":  # physics, section 4.5: m(th) * sigma_t * S
        begun = {n: torch.full_like(w, censored_moments(1.0)[0] * 0.2 * float(scales[n])) for n, w in weights.items()}
    else:
        begun = {n: device.program(w, draws) - w for n, w in weights.items()}
    leaves = {n: (weights[n] + begun[n]).requires_grad_() for n in weights}
    with programmed(network.model, leaves) as model:
        slopes = torch.autograd.grad(LOSSES[inner_loss](model(x), y).sum(), list(leaves.values()))
    worst = {n: leaves[n].detach() - 0.05 * scales[n] * g.sign() for n, g in zip(leaves, slopes, strict=True)}
    with torch.no_grad(), programmed(network.model, worst) as model:
        assert adversarial == pytest.approx(0.3 * float(F.cross_entropy(model(x), y)), rel=1e-5)
    chip = {n: device.program(w, draws) for n, w in weights.items()}
    with torch.no_grad(), programmed(network.model, chip) as model:
        assert noisy == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-5)


@pytest.mark.parametrize(("updates", "count"), [("joint", 1), ("each", 2)])
def test_a_trice_applies_both_updates(data, updates, count):
    recipe = ATrice(updates=updates, epochs=1, batch_size=900, ramp=0, start="sample", inner_loss="ce")
    with TrainingRun.of(recipe, small_net(), data, seeded(), silent) as run:
        before, seen = nominal(run.network), []

        def watched(*_):
            model = run.network.model
            seen.append((copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]))

        run.optimizer.register_step_post_hook(watched)
        run.train_epoch(recipe)
    assert len(seen) == count
    model = small_net()
    twin = map_network(model, CrossbarConfig(), (1, 4, 4))
    order = torch.randperm(900, generator=(draws := seeded()))
    losses = recipe.losses(twin, data.train.inputs(order), data.train.labels[order], 0.0, draws)
    if updates == "joint":  # one step along the sum of both gradients
        for loss in losses:
            loss.backward()
        assert_gradients(model, seen[0][1])
    else:  # the second gradient is that at the weights after the first step
        for old, (new, gradients) in zip([before, seen[0][0]], seen, strict=True):
            model.zero_grad()
            next(losses).backward()
            assert_gradients(model, gradients)
            assert not torch.equal(old.get("0", old.get("0.weight")), new["0.weight"])
            model.load_state_dict(new)


def assert_gradients(model, expected):
    for ours, theirs in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(ours.grad, theirs, atol=1e-6)


def test_the_adversary_goes_where_it_hurts_and_stays_in_its_box(network, data):
    x, y = batch(data, 200)
    scales, weights = full_scales(network), nominal(network)
    zero = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def loss_at(deviation):
        with torch.no_grad(), programmed(network.model, {n: weights[n] + deviation[n] for n in weights}) as model:
            return float(F.cross_entropy(model(x), y))

    values = [loss_at(zero)]
    for steps in (1, 4):
        worst = descended(network, x, y, zero, "ce", step=0.05 / steps, steps=steps, bound=0.05)
        assert all(float((d.abs() / scales[n]).max()) <= 0.05 * (1 + 1e-6) for n, d in worst.items())
        values.append(loss_at(worst))
    assert values[0] < values[1] <= values[2] * 1.01


def test_adversarial_training_stays_within_the_ramped_bound(network, data, monkeypatch):
    seen = []

    def spy(*args, **settings):
        seen.append((settings["bound"], descended(*args, **settings)))
        return seen[-1][1]

    monkeypatch.setattr("cimenv.training.adversarial.descended", spy)
    recipe, scales = Adversarial(bound=0.1, inner_steps=3, ramp=0.5), full_scales(network)
    for done in (0.25, 1.0):
        list(recipe.losses(network, *batch(data), done, seeded()))
    assert [bound for bound, _ in seen] == pytest.approx([0.05, 0.1])
    for bound, worst in seen:
        assert max(float((d.abs() / scales[n]).max()) for n, d in worst.items()) == pytest.approx(bound, rel=1e-5)


def test_sam_steps_rho_along_the_gradient(network, data):
    x, y = batch(data)
    weights = {name: weight.requires_grad_() for name, weight in nominal(network).items()}
    with programmed(network.model, weights) as model:
        slopes = torch.autograd.grad(F.cross_entropy(model(x), y), list(weights.values()))
    norm = torch.cat([slope.flatten() for slope in slopes]).norm()
    moved = {n: w.detach() + 0.5 * g / norm for (n, w), g in zip(weights.items(), slopes, strict=True)}
    with torch.no_grad(), programmed(network.model, moved) as model:
        by_hand = float(F.cross_entropy(model(x), y))
    (loss,) = Sam(rho=0.5).losses(network, x, y, 0.0, seeded())
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)


def test_interval_shrinks_as_published():
    assert _shrunk(0.0, 0.4, 0.25) == pytest.approx((0.0, 0.2))
    assert _shrunk(0.0, 0.4, 0.5) == pytest.approx((0.1, 0.3))
    assert _shrunk(0.0, 0.4, 0.75) == pytest.approx((0.2, 0.4))


def test_trice_searches_strength_and_threshold_in_turn(data):
    recipe = Trice(epochs=4, batch_size=100, learning_rate=0.02, ramp=0)
    counted = 0
    judged = Trice.judged

    def counting(self, network, val, metrics):
        nonlocal counted
        counted += self.select in metrics
        assert val is data.val
        return judged(self, network, val, metrics)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trice, "judged", counting)
        trained = recipe.fit(small_net(), data, seeded(), silent)
    assert counted == 4 * (3 + 1)  # three candidates and the record, every epoch
    history = trained.history
    assert round(history[0]["sigma"], 9) in (0.075, 0.15, 0.225) and history[0]["threshold"] == 1.25
    assert history[1]["sigma"] == history[0]["sigma"] and history[1]["threshold"] in (0.875, 1.25, 1.625)
    for epoch in history:
        assert 0 <= epoch["worst_case"] <= epoch["clean"] and epoch["percentile"] <= epoch["mean"]


def test_all_three_candidates_start_from_the_same_weights_images_and_draws(data):
    recipe, seen = Trice(epochs=1, batch_size=100, ramp=0), []

    class Spied(Trice):
        def losses(self, network, x, y, done, generator):
            seen.append((x.sum().item(), network.weights()["3"].sum().item(), self.sigma))
            return super().losses(network, x, y, done, generator)

    Spied(**recipe.model_dump()).fit(small_net(), data, seeded(), silent)
    first, second, third = seen[:9], seen[9:18], seen[18:]
    assert [x for x, _, _ in first] == [x for x, _, _ in second] == [x for x, _, _ in third]
    assert first[0][1] == second[0][1] == third[0][1]
    assert [part[0][2] for part in (first, second, third)] == pytest.approx([0.075, 0.15, 0.225])


def test_baking_in_adds_the_mean_of_the_noise(data):
    settings = {"epochs": 1, "batch_size": 100, "search": False, "sigma": 0.2, "threshold": 0.7, "judge_images": 60}
    plain, baked = (Trice(**settings, bake_in=bake, select="clean") for bake in (False, True))
    states = [recipe.fit(small_net(), data, seeded(), silent).state for recipe in (plain, baked)]
    for name in ("0.weight", "3.weight"):
        shift = censored_moments(0.7)[0] * 0.2 * states[0][name].abs().amax()  # m(th) * sigma_t * S
        assert torch.allclose(states[1][name], states[0][name] + shift, atol=1e-6)
    assert torch.equal(states[0]["0.bias"], states[1]["0.bias"])


def test_measuring_a_baked_network_puts_its_weights_back(network, data):
    before = copy.deepcopy(network.model.state_dict())
    Trice(bake_in=True, judge_images=50).measures(network, data.val)
    assert all(torch.equal(value, network.model.state_dict()[name]) for name, value in before.items())


@pytest.mark.slow
def test_training_at_the_worst_deviation_helps_against_it(data):
    found = {}
    for recipe in (recipe_named("standard"), Adversarial(bound=0.3, ramp=0.3)):
        settled = recipe.model_copy(update={"epochs": 15, "batch_size": 50, "learning_rate": 0.02})
        model = small_net()
        settled.fit(model, data, seeded(), silent)
        network = map_network(model.eval().requires_grad_(False), CrossbarConfig(), (1, 4, 4))
        target = AttackTarget(network, data.val.inputs(), data.val.labels)
        attack = WorstCaseSearch(bound=0.3, steps=10, random_chips=4, lagrangian_rounds=0)
        found[recipe.name] = worst_case(target, attack, seeded()).accuracy
    assert found["adversarial"] > found["standard"] + 0.3  # seen: 0.87 and 0.34


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GaussianNoise(judge_chips=58), "judge_chips is 58; the 0.05-quantile needs at least 59"),
        (lambda: Trice(threshold=0), "threshold: got 0"),
        (lambda: ATrice(epsilon=1.5), "epsilon: got 1.5"),
        (lambda: ATrice(inner_loss="hinge"), "inner_loss: got 'hinge'"),
        (lambda: Trice(sigma_range=(0.3, 0.1)), "sigma_range"),
        (lambda: Adversarial(bound=2), "bound: got 2"),
    ],
)
def test_bad_settings_are_refused(make, named):
    with pytest.raises(ConfigError, match=named):
        make()
