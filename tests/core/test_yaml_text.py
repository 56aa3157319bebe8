"""YAML 1.2 scalars; what hides a mistake or harms is one sentence with its line."""

import math

import pytest
import yaml

from cimenv.core.config import read_yaml, with_overrides
from cimenv.core.errors import ConfigError
from cimenv.core.yaml_text import DEPTH, DIGITS, NODES, parsed, written
from cimenv.tasks import load_task

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("<<", "<<"),
        ("010", 10),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("True", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("[&a [1], *a]", [[1], [1]]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    assert parsed(f"x: {text}", "it") == {"x": value}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is given twice (line 3, column 1)"),
        ("a: {b: 1, b: 1}", "'b' is given twice (line 1, column 11)"),
        ("a: &a [*a]", "'*a' stands within what it names (line 1, column 8)"),
        ("a: &a {b: [{c: *a}]}", "'*a' stands within what it names"),
        ("a: *b", "found undefined alias 'b'"),
        (BOMB, f"more than {NODES:,} entries, aliases written out (line 6, column 5)"),
        ("a: " + "[" * 3_000 + "]" * 3_000, f"more than {DEPTH} levels"),
        ("a: " + "9" * 100_000, f"a number of more than {DIGITS} digits"),
        ("a: !!int x", "no int is written so"),
        ("a: !!int [1]", "no int is written so"),
        ("a: !!float 1:30", "no float is written so"),
        ("a: !!bool 'yes'", "no bool is written so"),
        ("a: !!timestamp x", "'!!timestamp' is no type for settings"),
        ("a: !!binary '#'", "'!!binary' is no type for settings"),
        ("a: !!python/name:os.system x", "'!!python/name:os.system' is no type for settings"),
        ("a: !mine 1", "'!mine' is no type for settings"),
        ("a: !!map [1]", "a mapping is needed"),
        ("? [1]\n: 2", "a key must be text"),
        ("--- a\n--- b", "but found another document"),
        ("a: [1", "expected ',' or ']'"),
        ("a: \0", "unacceptable character #x0000"),
    ],
)
def test_what_hides_a_mistake_or_harms_is_refused(text, says):
    with pytest.raises(ConfigError) as caught:
        parsed(text, "task.yaml")
    told = str(caught.value)
    assert told.startswith("task.yaml is not valid YAML: ") and says in told and told.endswith("; correct it.")
    assert "\n" not in told and len(told) < 300


def test_what_is_written_reads_back_the_same_here_and_elsewhere():
    words = [
        "1e3",
        "yes",
        "on",
        "010",
        "1_0",
        "0o7",
        "~",
        "",
        "null",
        "1:30",
        "2026-01-01",
        "=",
        "a: b",
        "\x1b[31m",
        "é",
    ]
    value = {
        "words": words,
        "numbers": [1e-5, 10**25, -0.0, 3],
        "deep": {"flag": True, "none": None},
        **dict.fromkeys(words, 1),
    }
    for flow in (None, False, True):
        assert parsed(written(value, flow=flow), "it") == value
        assert yaml.safe_load(written(value, flow=flow)) == value


def test_fields_of_a_file_have_names(tmp_path):
    (tmp_path / "a.yaml").write_text("1: 2\n")
    with pytest.raises(ConfigError, match="the key 1 is no text; give names of fields"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("worst_case.refine=yes", "Task.worst_case.refine: got 'yes'; input should be a valid boolean."),
        ("memory_limit=yes", "Task.memory_limit: got 'yes'; input should be a valid number."),
        ("memory_limit=1:30", "Task.memory_limit: got '1:30'; input should be a valid number."),
        ("chips=true", "Task.chips: got True; input should be a valid integer."),
        ("chips=8.0", "Task.chips: got 8.0; input should be a valid integer."),
        ("chips='8'", "Task.chips: got '8'; input should be a valid integer."),
        ("name=1", "Task.name: got 1; input should be a valid string."),
    ],
)
def test_a_value_of_another_type_is_one_sentence(override, says):
    with pytest.raises(ConfigError) as caught:
        load_task("toy-4site", [override])
    assert str(caught.value) == says


def test_overrides_are_texts():
    with pytest.raises(ConfigError, match="Override 3 is no text"):
        with_overrides({}, [3])
    with pytest.raises(ConfigError, match=r"overrides: got 'chips=8'; give a list of texts"):
        load_task("toy-4site", "chips=8")
