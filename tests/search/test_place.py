"""place says what its placement is worth: against none and affine, on what the search did not see."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import cimenv
from cimenv.cost.hardware import explained
from cimenv.crossbar import programmed
from cimenv.search import SearchResult
from cimenv.tasks import MonteCarloEvaluator
from cimenv.tasks.evaluators import monte_carlo


@pytest.fixture
def finding(monkeypatch):
    """Make every search find one placement."""

    def set_to(placement):
        def found(evaluator, method, *_):
            evaluation = evaluator.evaluate(placement)
            return SearchResult(method, placement, 1.0, evaluation, 2, [])

        monkeypatch.setattr("cimenv.search.placing.run_search", found)

    return set_to


def per_chip(evaluator, placement, bank, images, chips):
    """Count the correct images of every chip with nothing but the chip's weights and the blocks."""
    problem = evaluator.problem
    x, y = problem.data.val.inputs(images), problem.data.val.labels[images]
    model, counts = problem.network.model, []
    for chip in chips:
        weights = problem.chips("val").all_weights(chip)
        with torch.no_grad(), programmed(model, weights), bank.inserted(model, placement):
            counts.append(int((model(x).argmax(1) == y).sum()))
    return np.array(counts)


def test_affine_is_returned_where_the_search_found_less(nearest, prototypes, quick, finding):
    finding((0,))
    result = cimenv.place(nearest, prototypes, **quick)
    found, none, affine = result.comparison.found, result.comparison.none, result.comparison.affine
    assert found.placement == none.placement == (0,) and affine.placement == (1,)
    assert result.fell_back and result.placement == (1,) and result.blocks == {"1": "affine"}

    # J by hand: images 50 to 99 of validation, chips 12 to 23
    problem, unseen, chips = result.evaluator.problem, slice(50, 100), range(12, 24)
    without = per_chip(result.evaluator, (0,), problem.bank, unseen, chips)
    tuned = per_chip(result.evaluator, (1,), problem.tuned_bank((1,)), unseen, chips)
    assert found.evaluation.correct[0].tolist() == without.tolist()
    assert affine.evaluation.correct[0].tolist() == tuned.tolist()
    images, labels = prototypes.val.inputs(unseen), prototypes.val.labels[unseen]
    clean = (nearest(images).argmax(1) == labels).float().mean().item()
    gap = max(clean - without.mean() / 50, 0.05)
    values = (tuned / 50 - without.mean() / 50) / gap - 0.3 * result.evaluator.space.scalar_cost((1,))
    assert affine.chip_objectives == pytest.approx(values) and affine.objective == pytest.approx(values.mean())
    difference = (tuned - without) / 50 / gap - 0.3 * result.evaluator.space.scalar_cost((1,))
    half = 2.201 * difference.std(ddof=1) / np.sqrt(12)  # Student's t of 11 degrees
    lead, interval = result.comparison.lead(affine, found)
    assert lead == pytest.approx(difference.mean()) and lead > 0.2
    assert interval == pytest.approx((lead - half, lead + half), abs=1e-4)

    first, second, *_ = str(result).splitlines()
    assert first.startswith(f"Affine everywhere is better than the placement found: J {affine.objective:.3f} against")
    assert "on 12 held-out chips x 50 held-out images; affine everywhere returned." in first
    assert second.startswith("placement (1,) in the place of (0,) (greedy, 2 evaluations)")


def test_what_was_found_is_kept_where_that_is_asked_for(nearest, prototypes, quick, finding):
    finding((0,))
    result = cimenv.place(nearest, prototypes, fallback=False, **quick)
    assert result.placement == (0,) and not result.fell_back and result.comparison.best.placement == (1,)
    assert str(result).splitlines()[0].endswith("what was found is kept, as asked.")
    assert result.affine.placement == (1,) and result.affine.split == "test" and result.tuned.placement == (0,)
    assert f"affine everywhere {result.affine.value('mean'):.3f}" in str(result)


def test_no_blocks_are_returned_where_none_pays(nearest, prototypes, quick, finding):
    finding((2,))
    dear = {"cost_weight": 100.0, "cost_weights": {"weights": 1.0}}
    result = cimenv.place(nearest, prototypes, **quick, **dear)
    assert result.placement == (0,) and result.blocks == {} and result.shares["weights"] == 0.0
    assert str(result).startswith("No blocks are better than the placement found: J 0.000 against -")
    assert "no block pays for itself" in str(result)


def test_a_good_placement_stands(nearest, prototypes, quick):
    result = cimenv.place(nearest, prototypes, method="exhaustive", **quick)
    comparison = result.comparison
    assert not result.fell_back and result.placement == result.search.best == comparison.best.placement
    assert str(result).startswith(f"placement {result.placement} (exhaustive, 4 evaluations)")
    assert "held out: the placement found is" in str(result)


def test_affine_is_compared_only_where_it_is_an_option(nearest, prototypes, quick, finding):
    finding((0,))
    low_rank = {"options": {"dense": [{"kind": "low_rank", "size": 0.25}]}}
    without = cimenv.place(nearest, prototypes, **quick, **low_rank)
    assert without.comparison.affine is None and without.affine is None
    assert "affine everywhere is no option: there is nothing to compare" in str(without)
    poor = cimenv.place(nearest, prototypes, budget={"weights": 0.01}, **quick)  # two a channel are 3 %
    assert poor.comparison.affine is None and poor.placement == (0,)


def test_where_the_search_saw_all_images_only_the_chips_are_fresh(nearest, prototypes, quick, finding):
    finding((1,))
    result = cimenv.place(nearest, prototypes, **{**quick, "images": 500})
    assert not result.comparison.fresh_images and result.comparison.found.evaluation.images == 120
    chips = range(12, 24)
    tuned = per_chip(result.evaluator, (1,), result.evaluator.problem.tuned_bank((1,)), slice(None), chips)
    assert result.comparison.found.evaluation.correct[0].tolist() == tuned.tolist()
    assert "on 12 held-out chips x 120 validation images" in str(result)


def test_the_test_split_is_touched_once_after_all_choices(nearest, prototypes, quick, monkeypatch):
    asked, answers = [], MonteCarloEvaluator.answers

    def spied(self, requests, *rest):
        asked.append((requests[0].split, tuple(request.placement for request in requests)))
        return answers(self, requests, *rest)

    monkeypatch.setattr(MonteCarloEvaluator, "answers", spied)
    result = cimenv.place(nearest, prototypes, method="exhaustive", **quick)
    splits = [split for split, _ in asked]
    assert splits[splits.index("test") :] == ["test", "test"] and asked[-2] == ("test", ((0,),))
    assert asked[-1] == ("test", (result.placement, (1,)))


def test_what_was_found_is_said_before_its_blocks_are_fitted_and_is_not_searched_again(
    nearest, prototypes, quick, monkeypatch
):
    asked, run_job = [], monte_carlo.run_job

    def spied(engines, requests, compute):
        asked.append((requests[0].split, requests[0].fidelity, requests[0].chips))
        return run_job(engines, requests, compute)

    class StoppedError(Exception):
        """The process was killed."""

    class Bar:
        def __call__(self, steps=1):
            pass

        def describe(self, description, total):
            pass

        def say(self, line, instead=False):
            if line.startswith("placement found: "):
                raise StoppedError(line)

    @contextmanager
    def stopping(description, total, done=0):
        yield Bar()

    monkeypatch.setattr(monte_carlo, "run_job", spied)
    with pytest.raises(StoppedError, match=r"J 0\.\d+, 4 evaluations\); its blocks are fitted now"):
        cimenv.place(nearest, prototypes, method="exhaustive", **{**quick, "progress": stopping})
    assert {fidelity for _, fidelity, _ in asked} == {"bank"} and {split for split, _, _ in asked} == {"val"}
    asked.clear()
    result = cimenv.place(nearest, prototypes, method="exhaustive", **quick)
    assert result.search.evaluations == 4 and ("val", "bank", range(12)) not in asked


@pytest.mark.parametrize("method", ["racing", "ladder"])
def test_every_kind_of_search_is_compared(nearest, prototypes, quick, method):
    result = cimenv.place(nearest, prototypes, method=method, times_s=(0.0, 60.0), **quick)
    assert result.comparison.found.evaluation.correct.shape == (2, 12) and method in str(result)


def test_metrics_that_are_no_mean_over_chips_have_no_interval(nearest, prototypes, quick, finding):
    finding((1,))
    result = cimenv.place(nearest, prototypes, statistic="percentile", percentile=0.4, **quick)
    found, none = result.comparison.found, result.comparison.none
    lead, interval = result.comparison.lead(found, none)
    low = [np.sort(one.evaluation.accuracy)[4] for one in (found, none)]  # the fifth of twelve chips
    assert interval is None and np.sign(lead) == np.sign(low[0] - low[1]) and found.objective == lead


def test_held_out_numbers_have_keys_of_their_own(nearest, prototypes, quick, finding):
    finding((1,))
    result = cimenv.place(nearest, prototypes, **quick)
    held_out = json.loads(result.comparison.found.evaluation.key)
    searched = json.loads(result.evaluator.evaluate((1,), "val", "tuned", range(12, 24)).key)
    assert held_out["data"] != searched["data"] and held_out["weights"] == searched["weights"]
    other = prototypes.after_val(40)
    assert other.digest not in (held_out["data"], searched["data"]) and len(other.val) == 80
    assert torch.equal(other.val.labels, prototypes.val.labels[40:]) and len(prototypes.val) == 120


def test_too_few_evaluations_for_a_first_round_are_said(nearest, prototypes, quick):
    result = cimenv.place(nearest, prototypes, evaluations=2, **quick)
    notice = result.search.notice
    assert notice.startswith("Method greedy needs 4 evaluations for its first round, which is cut short at 2; allow 4 ")
    assert "random or surrogate" in notice and notice in str(result) and result.search.evaluations == 2
    enough = cimenv.place(nearest, prototypes, evaluations=4, **quick)
    drawn = cimenv.place(nearest, prototypes, evaluations=2, method="random", **quick)
    assert enough.search.notice == drawn.search.notice == ""


def test_an_area_above_the_backbones_is_explained(nearest, prototypes, quick, finding):
    finding((3,))
    result = cimenv.place(nearest, prototypes, fallback=False, **quick)
    area = result.shares["area"]
    assert f"+{area:.2%} area" in str(result)
    assert ("An area of" in str(result)) == (area > 1)
    assert explained({"area": 1.0}) is None
    assert explained({"area": 2.5}).startswith("An area of 250% is no mistake: blocks keep their weights in SRAM")
