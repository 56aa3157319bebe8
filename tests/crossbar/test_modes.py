import threading

import pytest
import torch
from torch import nn

from cimenv.crossbar.modes import evaluating, modes


class Merging(nn.Linear):
    """A layer whose `train` does more than set a flag, as low-rank adapters that merge for inference do."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


class Frozen(nn.Sequential):
    """A network that keeps its first part in eval mode whatever it is told."""

    def train(self, mode=True):
        super().train(mode)
        self[0].eval()
        return self


def mixed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), nn.BatchNorm1d(2))
    model.train()
    model[1].eval()
    model[1][1].train()
    return model


def test_every_part_gets_its_mode_back():
    model = mixed()
    before = [module.training for module in model.modules()]
    assert before == [True, True, False, False, True, True]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_also_when_interrupted(error):
    model = mixed()
    before = modes(model)
    with pytest.raises(error), evaluating(model):
        raise error
    assert modes(model) == before


def test_own_train_methods_are_called_and_their_say_stands():
    model = Frozen(nn.BatchNorm1d(2), Merging(2, 2)).train()
    with evaluating(model):
        assert model[1].merged and not model[1].training
    assert not model[1].merged and model[1].training
    assert not model[0].training


def test_a_model_in_eval_mode_is_not_touched():
    class Counting(nn.Linear):
        calls = 0

        def train(self, mode=True):
            type(self).calls += 1
            return super().train(mode)

    model = nn.Sequential(Counting(2, 2)).eval()
    Counting.calls = 0
    with evaluating(model):
        pass
    assert Counting.calls == 0


def test_threads_that_overlap_leave_the_modes_of_the_first():
    model, inside, leave = mixed(), threading.Barrier(2), threading.Event()
    before, seen = modes(model), []

    def first():
        with evaluating(model):
            inside.wait()
        leave.set()

    def second():
        with evaluating(model):
            inside.wait()
            leave.wait()
            seen.append(any(module.training for module in model.modules()))

    threads = [threading.Thread(target=work) for work in (first, second)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert seen == [False]
    assert modes(model) == before


def test_dropout_is_off_inside():
    model = nn.Sequential(nn.Dropout(0.9)).train()
    with evaluating(model):
        assert torch.equal(model(torch.ones(8)), torch.ones(8))
