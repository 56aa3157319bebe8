import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cimenv.crossbar import (
    CrossbarConfig,
    batch_statistics,
    calibrated_for_chip,
    map_network,
    programmed,
    recalibrate_shared,
    shared_statistics,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
    )
    for norm in (net[1], net[5]):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.uniform_(norm.bias, -1.0, 1.0)
        norm.running_mean.fill_(7.0)  # stale
    return net.eval()


@pytest.fixture
def images():
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def drawn(model, count):
    network, draw = map_network(model, CrossbarConfig()), torch.Generator().manual_seed(2)
    return [{name: w.detach() for name, w in network.program(draw).items()} for _ in range(count)]


def moments(y):
    return y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=True)


def by_hand(model, weights, x):
    """Return mean and variance at both batch norms for one batch on one chip, written out."""
    first = F.conv2d(x, weights["0"], model[0].bias)
    m, v = moments(first)
    biased = first.var((0, 2, 3), unbiased=False)
    scaled = (first - m[:, None, None]) / (biased + 1e-5).sqrt()[:, None, None]
    hidden = (scaled * model[1].weight[:, None, None] + model[1].bias[:, None, None]).relu()  # dropout stays off
    return (m, v), moments(F.conv2d(hidden, weights["4"], model[4].bias))


def test_shared_is_the_average_over_chips(model, images):
    chips = drawn(model, 3)
    expected = [by_hand(model, chip, images[20 * (k % 2) :][:20]) for k, chip in enumerate(chips)]  # blocks in turn
    recalibrate_shared(model, chips, images, block=20)
    for n, norm in enumerate((model[1], model[5])):
        mean, var = (torch.stack([chip[n][i] for chip in expected]).mean(0) for i in (0, 1))
        assert torch.allclose(norm.running_mean, mean, atol=1e-5)
        assert torch.allclose(norm.running_var, var, rtol=1e-4)
        assert norm.momentum == 0.1
        assert not norm.training


def test_shared_leaves_weights_and_networks_without_batch_norm_alone(model, images):
    before = copy.deepcopy(model.state_dict())
    recalibrate_shared(model, drawn(model, 2), images)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.endswith(("mean", "var", "tracked"))), name
    recalibrate_shared(nn.Sequential(nn.Linear(2, 2)), [], images)


def test_per_chip_equals_a_plain_pass_in_train_mode(model, images):
    (chip,) = drawn(model, 1)
    before = copy.deepcopy(model.state_dict())
    norms = calibrated_for_chip(model, chip, images, block=10)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    plain = copy.deepcopy(model)
    for norm in (plain[1], plain[5]):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad(), programmed(plain, chip):
        for part in images.split(10):
            plain(part)
    assert list(norms) == ["1", "5"]
    for name, norm in norms.items():
        assert torch.equal(norm.running_mean, plain.get_submodule(name).running_mean)
        assert torch.equal(norm.running_var, plain.get_submodule(name).running_var)
        assert not norm.training
        assert norm is not model.get_submodule(name)


def test_per_chip_differs_between_chips_and_shared_is_their_mean(model, images):
    chips = drawn(model, 4)
    own = torch.stack([calibrated_for_chip(model, chip, images)["1"].running_mean for chip in chips])
    assert own.std(0).min() > 1e-3
    recalibrate_shared(model, chips, images)  # one block: every chip sees all images
    assert torch.allclose(model[1].running_mean, own.mean(0), atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_batch_statistics_leave_the_buffers_untouched(model, images, fails):
    model[1].num_batches_tracked.fill_(17)
    before = copy.deepcopy(model.state_dict())
    try:
        with torch.no_grad(), batch_statistics(model):
            out = model(images)
            if fails:
                raise KeyError
    except KeyError:
        pass
    # the last layer is a batch norm: its output has the batch statistics its weight and bias say
    assert torch.allclose(out.mean((0, 2, 3)), model[5].bias, atol=1e-5)
    assert torch.allclose(out.std((0, 2, 3), unbiased=False), model[5].weight, rtol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].num_batches_tracked == 17
    assert not any(module.training for module in model.modules())


def test_no_batch_norm_means_nothing_to_calibrate(images):
    assert calibrated_for_chip(nn.Sequential(nn.Conv2d(1, 2, 3)), {}, images) == {}


def test_shared_statistics_serve_the_forward_and_follow_slowly():
    """One batch of mean 3, variance 4: running mean 0 -> .01 x 3, running variance 1 -> .99 + .01 x 4."""
    norm = nn.BatchNorm1d(2, affine=False).train()
    x = torch.tensor([[1.0], [5.0]]).repeat(500, 2)  # variance 4 with n, 4.004 with n - 1
    with shared_statistics(nn.Sequential(norm)):
        assert torch.equal(norm(torch.zeros(4, 2)), torch.zeros(4, 2))  # not the batch's own
        norm.reset_running_stats()
        norm(x)
    assert norm.training and not norm._forward_pre_hooks
    assert norm.running_mean == pytest.approx([0.03, 0.03]) and norm.running_var == pytest.approx(
        [1.03, 1.03], rel=1e-4
    )


def test_a_shared_norm_that_is_called_twice_can_be_trained():
    norm = nn.BatchNorm1d(2)
    with shared_statistics(norm):
        norm(norm(torch.randn(8, 2, requires_grad=True))).sum().backward()
    assert norm.weight.grad is not None
