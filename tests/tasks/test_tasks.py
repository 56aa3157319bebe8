"""Tasks: named files, errors in one sentence, keys."""

import math

import pytest
import yaml

from cimenv.core.errors import CimenvError, ConfigError, DataError, MappingError, UnknownNameError
from cimenv.crossbar import Pcm
from cimenv.tasks import PlacementSpace, Task, load_task, named_tasks


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 450
    return text


def test_named_tasks():
    assert set(named_tasks()) >= {"toy-4site", "lenet5-fashion-mini", "lenet5-fashion", "lenet5-mnist"}
    for name in named_tasks():
        task = load_task(name)
        assert task.name == name
        if task.crossbar.analog:
            assert task.crossbar.device == Pcm() and task.recipe.name == "hwa" and task.times_s == (3_600.0,)
        else:
            usual = 0.8 if name == "vgg16-two-digit" else 0.5
            assert task.crossbar.device.sigma == {"worst_case": 0.015}.get(task.statistic, usual)


@pytest.mark.parametrize(
    ("name", "sites", "placements"), [("mlp-4", 4, 256), ("lstm-3", 3, 64), ("resnet-8", 10, 512), ("vit-2", 14, 2048)]
)
def test_the_families_for_transfer_can_be_enumerated(name, sites, placements):
    """4^4, 4^3; 4^4 x 2 and 4^5 x 2: at the first layer, blocks but `affine` cost more than keeping it digital."""
    space = PlacementSpace(load_task(name))
    assert len(space.sites) == sites and sum(1 for _ in space.all_placements()) == placements


def test_default_task_is_lenet5_with_1024_placements():
    space = PlacementSpace(load_task("lenet5-fashion-mini"))
    assert [site.name for site in space.sites] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert sum(1 for _ in space.all_placements()) == 1024
    assert space.backbone.weights == 61_470 and space.backbone.macs == 416_520


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"recipe": "lipshitz"}, "Did you mean 'lipschitz'"),
        ({"data": "fashon"}, "Did you mean 'fashion'"),
        ({"statistic": "median"}, "unknown statistic 'median'"),
        ({"statistic": "std"}, "which judges nothing"),
        ({"metric": "percentile"}, "write statistic: percentile"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"sigma": 0.3}, "unknown key"),
        ({"crossbar": {"device": {"kind": "log_normal", "sigma": -0.1}}}, "sigma"),
        ({"crossbar": {"device": {"kind": "log_normal", "sigma": math.nan}}}, "sigma"),
        ({"crossbar": {"device": {"kind": "log_normal", "sigma": math.inf}}}, "sigma"),
        ({"budget": {"watts": 1.0}}, "unknown cost term 'watts'"),
        ({"budget": {"weights": -1.0}}, "budget.weights"),
        ({"statistic": "percentile", "chips": 10}, "at least 59"),
        ({"precision": "bfloat16", "crossbar": {"preset": "rasch2023"}}, "too coarse for converters"),
        ({"training_precision": "bfloat16", "recipe": "hwa", "trained_for": {"preset": "rasch2023"}}, "take float32"),
        ({"precision": "bfloat16", "statistic": "worst_case"}, "take float32"),
        ({"options": [{"kind": "digital", "size": 2}]}, "kind digital is at most 1"),
        ({"options": [{"kind": "fulll"}]}, "kind"),
    ],
)
def test_bad_fields(fields, words):
    with pytest.raises(ConfigError) as error:
        load_task({"extends": "lenet5-fashion-mini", **fields})
    assert words in one_sentence(error)


def test_unknown_task():
    with pytest.raises(UnknownNameError) as error:
        load_task("lenet5-fashon-mini")
    assert "Did you mean 'lenet5-fashion-mini'" in one_sentence(error)


def test_backbone_without_layers_and_wrong_shapes():
    with pytest.raises(MappingError):
        Task(backbone="torch.nn:ReLU").sites()
    with pytest.raises(DataError) as error:
        Task(backbone="lenet5", backbone_args={"in_channels": 3}).sites()
    assert "does not pass through" in one_sentence(error)
    with pytest.raises(ConfigError):
        Task(backbone="lenet5", backbone_args={"widht": 3}).sites()
    with pytest.raises(UnknownNameError):
        Task(backbone="lenet6").sites()


def test_yaml_extends_and_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "toy-4site", "chips": 5, "recipe": {"name": "noise", "sigma": 0.3}}))
    task = load_task(path, ["crossbar.device.sigma=0.2", "recipe.epochs=2"])
    assert (task.chips, task.recipe.name, task.recipe.sigma, task.recipe.epochs) == (5, "noise", 0.3, 2)
    assert task.crossbar.device.sigma == 0.2 and task.backbone == "toy_cnn"


def test_an_override_reaches_into_a_shorthand(tmp_path):
    """`recipe: noise` is `recipe: {name: noise}` before anything is laid over it."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: lenet5-fashion-mini\nrecipe: noise\noptions: [{kind: affine}]\n")
    found = load_task(path, ["recipe.epochs=2", "options.conv=[]"])
    assert (found.recipe.name, found.recipe.epochs) == ("noise", 2)
    assert found.options["conv"] == () and [option.kind for option in found.options["dense"]] == ["affine"]
    again = load_task("lenet5-fashion-mini", ["recipe=standard", "recipe.epochs=3"])
    assert (again.recipe.name, again.recipe.epochs) == ("standard", 3)


def test_key_depends_on_what_changes_numbers_only():
    task = load_task("toy-4site")
    assert task.with_changes(name="other", training_threads=1).key == task.key
    bfloat16 = ({"precision": "bfloat16"}, {"training_precision": "bfloat16"})
    for change in ({"chips": 9}, {"training_seed": 1}, {"recipe": "noise"}, {"cost_weight": 0.1}, *bfloat16):
        assert task.with_changes(**change).key != task.key


def test_budget_masks_and_digital_rule():
    space = PlacementSpace(load_task("lenet5-fashion-mini", ["budget.weights=0.05"]))
    allowed = space.affordable(space.empty())
    assert not allowed[2, 3] and allowed[2, 2]  # fc1: rank 15 adds 15.8 %, rank 4 adds 4.4 %
    assert not space.affordable((0, 0, 2, 0, 0))[3, 2]  # 4.37 % + 1.55 % > 5 %
    dear = PlacementSpace(load_task({"extends": "lenet5-fashion-mini", "options": [{"kind": "full", "size": 1.0}]}))
    # A full block of ratio 1 costs 126 of conv1's 150 weights, but 91,440 against fc1's 48,000.
    assert dear.candidates[:, 1].tolist() == [True, True, False, False, False]


def test_candidates_mask_other_sites():
    space = PlacementSpace(load_task({"extends": "toy-4site", "candidates": ["conv2"]}))
    assert space.candidates[:, 1:].any(axis=1).tolist() == [False, True, False, False]


def test_unknown_candidate():
    with pytest.raises(UnknownNameError, match="Did you mean 'conv2'"):
        PlacementSpace(load_task({"extends": "toy-4site", "candidates": ["conv_2"]}))


def test_shares_are_ratios_of_totals():
    space = PlacementSpace(load_task("lenet5-fashion-mini"))
    cost = space.cost((3, 3, 3, 3, 3))
    expected = math.sqrt(cost.energy_pj.low * cost.energy_pj.high) / space.backbone.energy_pj.middle
    assert space.shares((3, 3, 3, 3, 3))["energy"] == pytest.approx(expected)


def test_all_errors_are_cimenv_errors():
    with pytest.raises(CimenvError):
        load_task("no-such.yaml")


def test_digital_layers_are_no_sites():
    task = load_task("toy-4site", ["crossbar.digital=['fc2']"])
    assert [site.name for site in task.sites()] == ["conv1", "conv2", "fc1"]
    assert task.key != load_task("toy-4site").key
