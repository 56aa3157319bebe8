"""Fixtures of the tests of experiments."""

import pytest


@pytest.fixture(autouse=True)
def at_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
