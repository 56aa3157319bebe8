"""Candidate sites, against what the same chips give when layers are kept digital."""

import pytest

from cimenv.analysis.candidates import candidate_sites, varied_from
from cimenv.core.errors import ConfigError
from cimenv.tasks import MonteCarloEvaluator


def test_layers_vary_from_the_last_one_on(toy):
    """At a threshold of 1 % all four layers may vary."""
    found = varied_from(toy.task, 0.01, toy.store)
    assert [entry.site for entry in found] == ["fc2", "fc1", "conv2", "conv1"]
    everything = toy.evaluate((0, 0, 0, 0))
    assert found[-1].accuracy == everything.value("mean")  # all layers vary: the network without blocks
    assert found[0].share == pytest.approx(found[0].accuracy / toy.clean_accuracy())
    assert found[-1].interval[0] < found[-1].accuracy < found[-1].interval[1]
    digital = toy.task.with_changes(options={kind: [{"kind": "digital"}] for kind in ("conv", "dense")})
    half = MonteCarloEvaluator(digital, toy.store).evaluate((1, 1, 0, 0))
    assert found[1].accuracy == half.value("mean")
    assert candidate_sites(toy.task, 0.01, toy.store) == ()


def test_candidates_are_the_sites_up_to_the_break(toy):
    found = varied_from(toy.task, 0.01, toy.store)
    assert found[0].share > found[1].share
    between = (found[0].share + found[1].share) / 2  # fc2 may vary, fc1 may not
    assert candidate_sites(toy.task, between, toy.store) == ("conv1", "conv2", "fc1")
    with pytest.raises(ConfigError, match=r"threshold: got 1.2"):
        varied_from(toy.task, 1.2, toy.store)


def test_a_network_that_knows_nothing_has_nothing_to_lose(toy, monkeypatch):
    monkeypatch.setattr(MonteCarloEvaluator, "clean_accuracy", lambda self, split="val": 0.0)
    with pytest.raises(ConfigError, match="classifies none of 500 validation images"):
        varied_from(toy.task, 0.5, toy.store)
