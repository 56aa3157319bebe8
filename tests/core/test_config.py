import json
import math
import pickle

import pytest

from cimenv.core.config import Frozen, canonical, load_object, merged, read_yaml, with_overrides
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.crossbar import CrossbarConfig, LogNormal


class Inner(Frozen):
    size: float = 1.0


class Outer(Frozen):
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()


def message(make) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith("..")
    return text


@pytest.mark.parametrize(
    ("value", "remedy"),
    [(-1.0, "greater than or equal to 0"), (math.nan, "finite number"), (math.inf, "finite number")],
)
def test_bad_number_names_field_value_remedy(value, remedy):
    assert message(lambda: LogNormal(sigma=value)) == f"LogNormal.sigma: got {value}; input should be " + (
        f"a {remedy}." if "finite" in remedy else f"{remedy}."
    )


def test_unknown_key_names_field_value_and_what_is_known():
    text = message(lambda: LogNormal(sgma=0.3))
    assert text == "LogNormal.sgma: unknown key (got 0.3); known: kind, sigma. Did you mean 'sigma'?"


def test_nested_error_names_the_whole_path_once():
    device = {"kind": "log_normal", "sigma": -1}
    text = message(lambda: CrossbarConfig(device=device))
    assert text == "CrossbarConfig.device.log_normal.sigma: got -1; input should be greater than or equal to 0."
    assert message(lambda: Outer(many=[{}, {"sizes": 2}])) == (
        "Outer.many.1.sizes: unknown key (got 2); known: size. Did you mean 'size'?"
    )
    assert message(lambda: Outer(inner={"size": "a\nb"})).startswith("Outer.inner.size: got 'a\\nb'; ")


@pytest.mark.parametrize("wrong", [{"sgma": 1}, {"sigma": -1}, {"sigma": math.nan}, {"sigma": "much"}])
def test_every_way_to_validate_says_the_same_sentence(wrong):
    text = message(lambda: LogNormal(**wrong))
    assert message(lambda: LogNormal.model_validate(wrong)) == text
    device = {"device": {"kind": "log_normal", **wrong}}
    nested = message(lambda: CrossbarConfig(**device))
    assert message(lambda: CrossbarConfig.model_validate(device)) == nested
    if wrong.get("sigma") is not math.nan:  # which JSON does not know
        assert message(lambda: LogNormal.model_validate_json(json.dumps(wrong))) == text
    assert message(lambda: LogNormal.model_validate_json("{")).startswith("LogNormal: got '{'; invalid JSON")


def test_nested_cross_field_error_names_both_fields():
    device = {"kind": "bit_sliced_gaussian", "weight_bits": 8, "device_bits": 3}
    text = message(lambda: CrossbarConfig(device=device))
    assert text == "CrossbarConfig.device.bit_sliced_gaussian: device_bits 3 must divide weight_bits 8."


def test_unknown_kind_lists_the_known_ones():
    text = message(lambda: CrossbarConfig(device={"kind": "lognormal"}))
    assert text.startswith("CrossbarConfig.device: unknown device 'lognormal'; known: ")
    assert text.endswith("pcm, reram_wan2022, stuck, table. Did you mean 'log_normal'?")


def test_frozen_and_equal_text_for_equal_configurations():
    with pytest.raises(Exception, match="frozen"):
        LogNormal().sigma = 1.0
    assert CrossbarConfig(device=LogNormal(sigma=0.5)).canonical() == CrossbarConfig().canonical()
    assert canonical({"b": 1, "a": [1.5]}) == '{"a":[1.5],"b":1}'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"- 1\n- 2\n", "holds a list; a mapping of fields is needed."),
        (b"", "holds a NoneType; a mapping of fields is needed."),
        (b"a: [1\nb: 2\n", "is not valid YAML"),
        (b"\xff\xfe\x00a", "is no text in UTF-8"),
        (None, "No such file or directory; give the path of a YAML file."),
    ],
)
def test_unreadable_yaml(tmp_path, content, says):
    path = tmp_path / "task.yaml"
    if content is not None:
        path.write_bytes(content)
    text = message(lambda: read_yaml(path))
    assert str(path) in text
    assert says in text


def test_yaml_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("device: {sigma: .3}\nnames: [a, b]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"device": {"sigma": 0.3}, "names": ["a", "b"]}


def test_dotted_overrides_are_read_as_yaml_and_leave_the_base_alone():
    base = {"crossbar": {"device": {"kind": "log_normal", "sigma": 0.5}, "dac_bits": 8}}
    out = with_overrides(base, ["crossbar.device.sigma=0.3", "seed=1", "options=[a, b]", "name=x=y"])
    assert out == {
        "crossbar": {"device": {"kind": "log_normal", "sigma": 0.3}, "dac_bits": 8},
        "seed": 1,
        "options": ["a", "b"],
        "name": "x=y",
    }
    assert base["crossbar"]["device"]["sigma"] == 0.5


@pytest.mark.parametrize("item", ["seed", "=1", "a=[1"])
def test_bad_override(item):
    assert f"'{item}'" in message(lambda: with_overrides({}, [item]))


def test_merged_replaces_by_kind_or_name():
    base = {"device": {"kind": "log_normal", "sigma": 0.5}, "recipe": {"name": "noise", "sigma": 0.5}, "seed": 0}
    same = merged(base, {"device": {"kind": "log_normal"}, "recipe": {"epochs": 3}})
    assert same["device"] == base["device"]
    assert same["recipe"] == {"name": "noise", "sigma": 0.5, "epochs": 3}
    other = merged(base, {"device": {"kind": "ideal"}, "recipe": {"name": "standard"}})
    assert other == {"device": {"kind": "ideal"}, "recipe": {"name": "standard"}, "seed": 0}


def test_unknown_name_suggests_the_nearest_and_survives_pickling():
    error = UnknownNameError("recipe", "nois", ["standard", "noise"])
    assert str(error) == "Unknown recipe 'nois'; known: noise, standard. Did you mean 'noise'?"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "Did you mean" not in str(UnknownNameError("recipe", "zzz", ["standard"]))


@pytest.mark.parametrize("path", ["math", "math:no_such", "no_such_module:x", ":x"])
def test_load_object_says_what_to_write(path):
    assert message(lambda: load_object(path)).endswith("write package.module:name.")


def test_load_object():
    assert load_object("math:sqrt") is math.sqrt
