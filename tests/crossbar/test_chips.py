import os
import subprocess
import sys

import pytest
import torch

from cimenv.core.errors import ConfigError
from cimenv.crossbar import BitSlicedGaussian, Chips, CrossbarConfig, Ideal, LogNormal, map_network


def network(device):
    """Return two equal matrices on the crossbar."""
    model = torch.nn.ModuleDict({name: torch.nn.Linear(30, 20) for name in ("a", "b")})
    for layer in model.values():
        torch.nn.init.constant_(layer.weight, 0.5)
    return map_network(model, CrossbarConfig(device=device))


def chips(device=None, seed=0, split="val"):
    return Chips(network(device or LogNormal(sigma=0.5)), seed, split)


@pytest.mark.parametrize("device", [LogNormal(), BitSlicedGaussian(), BitSlicedGaussian(write_verify=0.03)])
def test_a_chip_is_the_same_whatever_was_asked_before(device):
    forward = [chips(device).weights("a", k) for k in range(4)]
    busy = chips(device)
    torch.manual_seed(123)
    busy.weights("b", 7)
    busy.read_generator("a", 2, 0)
    backward = [busy.weights("a", k) for k in reversed(range(4))][::-1]
    for one, two in zip(forward, backward, strict=True):
        assert torch.equal(one, two)
    assert torch.equal(busy.all_weights(3)["a"], forward[3])
    assert not forward[0].requires_grad


def test_a_chip_is_the_same_in_another_process():
    code = (
        "import torch; from cimenv.crossbar import Chips, CrossbarConfig, LogNormal, map_network;"
        "m = torch.nn.ModuleDict({'b': torch.nn.Linear(30, 20)}); torch.nn.init.constant_(m['b'].weight, 0.5);"
        "c = Chips(map_network(m, CrossbarConfig(device=LogNormal(sigma=0.5))), 0, 'val');"
        "print(c.weights('b', 3).double().sum().item().hex())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == chips().weights("b", 3).double().sum().item().hex()


def test_golden_draw():
    weights = chips().weights("a", 0).flatten()[:3]
    assert weights.tolist() == pytest.approx([0.531607, 0.564303, 0.807045], rel=1e-5)


def test_splits_sites_seeds_and_numbers_are_independent():
    draws = [
        chips().weights("a", 0),
        chips().weights("a", 1),
        chips().weights("b", 0),
        chips(seed=1).weights("a", 0),
        chips(split="test").weights("a", 0),
        chips(split="train").weights("a", 0),
    ]
    theta = torch.stack([(draw / 0.5).log().flatten() for draw in draws])
    correlations = torch.corrcoef(theta)[~torch.eye(len(draws), dtype=torch.bool)]
    assert correlations.abs().max() < 5 / 600**0.5  # 5 standard errors of r = 0 over 600 weights


def test_every_sigma_shares_its_theta():
    half, tenth = (chips(LogNormal(sigma=s)).weights("a", 5) for s in (0.5, 0.1))
    assert torch.allclose((half / 0.5).log() / 0.5, (tenth / 0.5).log() / 0.1, atol=1e-5)
    assert torch.equal(chips(Ideal()).weights("a", 5), torch.full((20, 30), 0.5))


def test_read_generator():
    def first(*where, **kwargs):
        return torch.rand(4, generator=chips(**kwargs).read_generator(*where)).tolist()

    assert first("a", 0, 0) == first("a", 0, 0)
    others = [first("a", 0, 1), first("a", 1, 0), first("b", 0, 0), first("a", 0, 0, split="test")]
    assert all(first("a", 0, 0) != other for other in others)


def test_time_after_programming():
    later = chips().at(3600.0)
    assert later.t_s == 3600.0
    assert torch.equal(later.weights("a", 0), chips().weights("a", 0))  # these devices do not drift
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"t_s: got .*; give a time of at least 0 seconds"):
            chips().at(wrong)
