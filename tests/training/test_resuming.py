"""A fit of blocks that was killed goes on to the weights that it would have had."""

import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from cimenv.compensation import CompensationBank
from cimenv.compensation.options import BlockOption, options_by_type
from cimenv.core.config import load_object
from cimenv.core.errors import StoreError
from cimenv.core.progress import silent
from cimenv.core.store import Store
from cimenv.crossbar import CrossbarConfig, map_network
from cimenv.data import ImageSet
from cimenv.training.fitting import BankRecipe, TunedRecipe, fit_bank, fit_placement
from cimenv.training.resuming import Batches, Kept

STEPS = 20
TRAIN = ImageSet(
    torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(70) % 4, crop=1, flip=True
)


class KilledError(Exception):
    """As far as a kill got."""


def stopping(after, seen):
    @contextmanager
    def progress(description, total, done=0):
        seen.append((description, total, done))

        def advance(steps=1):
            nonlocal done
            done += steps
            if done == after:
                raise KilledError

        yield advance

    return progress


def fitted(kept=None, progress=silent, bank_too=False):
    """Return weights and the generator's state after a fit: of a placement's blocks, or of the bank and its log."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    network = map_network(model.eval().requires_grad_(False), CrossbarConfig(), (1, 8, 8))
    options = options_by_type(
        network.sites, {"conv": (BlockOption(kind="full"),), "dense": (BlockOption(kind="affine"),)}
    )
    torch.manual_seed(2)
    bank, generator = CompensationBank(options), torch.Generator().manual_seed(3)
    how, batches = (generator, progress, (0.0,), kept), {"steps": STEPS, "batch_size": 16}  # four batches an epoch
    log: list[torch.Tensor] = []
    if bank_too:
        met = fit_bank(network, bank, TRAIN, BankRecipe(**batches), *how)
        assert met.placements.shape == (STEPS, 2) and len(set(map(tuple, met.placements.tolist()))) == 3
        log = [torch.tensor(met.placements).double(), torch.tensor(met.correct).double()]
    else:
        fit_placement(network, bank, (1, 1), TRAIN, TunedRecipe(**batches), *how)
    return torch.cat([value.flatten() for value in (*bank.state_dict().values(), *log)]), generator.get_state()


@pytest.fixture(scope="module")
def whole():
    return fitted()


@pytest.mark.parametrize("after", [1, 6, STEPS])
def test_a_killed_bank_goes_on_bit_for_bit_with_its_log(tmp_path, after):
    seen, kept = [], Kept(Store(tmp_path), "fit", every_s=0.0)
    with pytest.raises(KilledError):
        fitted(kept, stopping(after, seen), bank_too=True)
    weights, state = fitted(Kept(Store(tmp_path), "fit"), stopping(None, seen), bank_too=True)
    whole = fitted(bank_too=True)
    assert [done for _, _, done in seen] == [0, after - 1]
    assert torch.equal(weights, whole[0]) and torch.equal(state, whole[1])


@pytest.mark.parametrize("after", [1, 2, 4, 5, 6, 11, STEPS])
def test_a_killed_fit_goes_on_bit_for_bit(whole, tmp_path, after):
    seen, kept = [], Kept(Store(tmp_path), "fit", every_s=0.0)
    with pytest.raises(KilledError):
        fitted(kept, stopping(after, seen))
    weights, state = fitted(Kept(Store(tmp_path), "fit"), stopping(None, seen))
    assert [done for _, _, done in seen] == [0, after - 1]  # what was kept after the step before
    assert torch.equal(weights, whole[0]) and torch.equal(state, whole[1])


def test_keeping_changes_no_number_and_what_is_over_is_emptied(whole, tmp_path):
    store = Store(tmp_path)
    kept = Kept(store, "fit", every_s=0.0)
    assert torch.equal(fitted(kept)[0], whole[0])
    assert store.get("fit").meta["steps"] == STEPS
    kept.done()
    assert store.get("fit").arrays == {} and torch.equal(fitted(Kept(store, "fit"))[0], whole[0])


def test_short_fits_leave_nothing(whole, tmp_path):
    kept = Kept(Store(tmp_path), "fit", every_s=60.0)
    assert torch.equal(fitted(kept)[0], whole[0])
    kept.done()
    assert Store(tmp_path).keys() == []


def test_a_full_disk_costs_only_the_way(whole, tmp_path, monkeypatch):
    def full(*_):
        raise StoreError("full")

    monkeypatch.setattr(Store, "put", full)
    assert torch.equal(fitted(Kept(Store(tmp_path), "fit", every_s=0.0))[0], whole[0])


def test_batches_go_to_a_position():
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first, second = (Batches(TRAIN, 16, generator, torch.contiguous_format) for generator in generators)
    for _ in range(6):
        next(first)
    second.restore(first.start, first.taken)
    assert first.taken == 2  # of the second epoch
    for _ in range(5):
        (x, y), (other_x, other_y) = next(first), next(second)
        assert torch.equal(x, other_x) and torch.equal(y, other_y)


OWN = """
import torch
from torch import nn

from cimenv.core.store import Store
from cimenv.data import DataSplits, ImageSet
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.own import own_task


def part(seed):
    return ImageSet(torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(seed)), torch.arange(60) % 3)


def evaluator(store, progress):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    data = DataSplits("own", part(0), part(1), part(2), classes=3)
    task, objects = own_task("test", model, data, None, {"bank": {"steps": 2}, "tuned": {"steps": 12}})
    return MonteCarloEvaluator(task, Store(store), progress=progress, objects=objects)
"""
KILLED = """
import os, signal, sys
from contextlib import contextmanager

sys.path.append(sys.argv[1])
from cimenv.training.resuming import Kept
from own_of_kill import evaluator

Kept.due = True  # after every step


@contextmanager
def progress(description, total, done=0):
    steps = 0

    def advance(more=1):
        nonlocal steps
        steps += more
        if description.startswith("tuning") and steps == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    yield advance


evaluator(sys.argv[2], progress).problem.tuned_bank((1,), progress)
"""


def test_tuning_goes_on_after_sigkill(tmp_path):
    (tmp_path / "own_of_kill.py").write_text(OWN)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "killed")], check=False)
    assert killed.returncode == -signal.SIGKILL
    evaluator, banks, opened = load_object(f"{tmp_path}/own_of_kill.py:evaluator"), [], []
    for store in ("killed", "whole"):
        bars = stopping(None, opened)
        bank = evaluator(tmp_path / store, bars).problem.tuned_bank((1,), bars)
        banks.append(torch.cat([value.flatten() for value in bank.state_dict().values()]))
    assert opened == [("tuning the blocks", 12, 7), ("training the bank", 2, 0), ("tuning the blocks", 12, 0)]
    assert torch.equal(*banks)
