"""Fixtures of the tests of agents."""

import pytest
import torch
from agent_runs import parameters, series


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def assert_same_runs():
    """Assert that two runs are equal in all that is not a time of the clock."""

    def check(a, b):
        for name in ("placements.csv", "result.json", "progress.csv", "config.yaml"):
            assert (a / name).read_bytes() == (b / name).read_bytes(), name
        ours, theirs = parameters(a), parameters(b)
        assert ours.keys() == theirs.keys() and len(ours) > 20
        for name, value in ours.items():
            same = torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]
            assert same, name
        assert repr(series(a)) == repr(series(b))  # SB3's explained variance is NaN where all returns are equal

    return check
