"""Fields are strict about types, signs and sizes, whatever class declares them."""

import importlib
import math
import pkgutil
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import cimenv
from cimenv.core.config import Frozen, checked_int
from cimenv.core.errors import ConfigError, UnknownNameError, brief, known_name, one_line
from cimenv.core.strict import ITEMS, LARGEST, TEXT


class Nameless:
    """A thing whose text is the same in every process: names of tests hold it."""

    def __repr__(self):
        return "<something>"


class Inner(Frozen):
    name: str = ""


class All(Frozen):
    whole: int = 0
    maybe: int | None = None
    number: float = 0.0
    flag: bool = False
    text: str = ""
    numbers: tuple[float, ...] = ()
    by_name: dict[str, float] = {}
    inner: Inner = Inner()
    anything: dict[str, Any] = {}


def name_of(value: object) -> str:
    return ascii(brief(value))[:40]


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("whole", True, "got True; input should be a valid integer"),
        ("whole", 8.0, "got 8.0; input should be a valid integer"),
        ("whole", "8", "got '8'; input should be a valid integer"),
        ("maybe", False, "got False; input should be a valid integer"),
        ("whole", 2**63, f"got {2**63}; give a number that 64 bits hold"),
        ("whole", 10**5_000, "got an int of 16610 bits; give a number that 64 bits hold"),
        ("number", True, "got True; input should be a valid number"),
        ("number", "0.5", "got '0.5'; input should be a valid number"),
        ("number", 1e19, f"got 1e+19; give a number of at most {LARGEST:g} in size"),
        ("number", 10**400, "give a number of at most 1e+18 in size"),
        ("number", math.inf, "got inf; input should be a finite number"),
        ("number", 1j, "got 1j; input should be a valid number"),
        ("flag", 1, "got 1; input should be a valid boolean"),
        ("flag", "yes", "got 'yes'; input should be a valid boolean"),
        ("text", b"a", "got b'a'; input should be a valid string"),
        ("text", "a\0b", "give text without null characters"),
        ("text", "\ud800", "give text without null characters and half characters"),
        ("text", "x" * (TEXT + 1), f"give at most {TEXT:,} characters"),
        ("numbers", [1, True], "got True; input should be a valid number"),
        ("numbers", [0.5] * (ITEMS + 1), f"at most {ITEMS} items"),
        ("numbers", "12", "got '12'; input should be a valid tuple"),
        ("by_name", {"a": "1"}, "got '1'; input should be a valid number"),
        ("by_name", {1: 1.0}, "got 1; input should be a valid string"),
        ("by_name", [1.0], "got [1.0]; input should be a valid dictionary"),
        ("inner", {1: 2}, "keys should be text, not 1"),
        ("inner", 3, "got 3; input should be a valid dictionary"),
        ("anything", {"a": math.nan}, "got nan; input should be a finite number"),
        ("anything", {"a": {"b": Nameless()}}, "give numbers, text, lists or mappings, not <something>"),
        ("anything", {"a": {1: 2}}, "keys should be text, not 1"),
        ("anything", {"a": CIRCLE}, "lists and mappings are more than 20 deep"),
    ],
    ids=name_of,
)
def test_wrong_values_are_refused_in_one_sentence(field, value, says):
    with pytest.raises(ConfigError) as caught:
        All(**{field: value})
    text = str(caught.value)
    assert text.startswith(f"All.{field}") and says in text and "\n" not in text and len(text) < 250


def test_numbers_of_numpy_and_others_are_numbers():
    made = All(whole=np.int64(3), maybe=np.uint8(4), number=np.float32(0.5), numbers=[Fraction(1, 4), 2])
    assert (made.whole, made.maybe, made.number, made.numbers) == (3, 4, 0.5, (0.25, 2.0))
    assert type(made.whole) is int and type(made.number) is float
    assert made.canonical() == All(whole=3, maybe=4, number=0.5, numbers=(0.25, 2.0)).canonical()


def test_half_characters_in_a_message_or_a_name_are_one_sentence():
    for fields in ({"\ud800": 1}, {"inner": {"\ud800": 1}}, {"anything": {"a\ud800": 1}}):
        with pytest.raises(ConfigError):
            All(**fields)


def test_every_whole_number_of_every_configuration_has_a_largest_value():
    for found in pkgutil.walk_packages(cimenv.__path__, "cimenv."):
        if not found.name.endswith("__main__") and ".sb3" not in found.name:
            importlib.import_module(found.name)
    models, new = set(), [Frozen]
    while new:
        new = [sub for model in new for sub in model.__subclasses__() if sub not in models]
        models |= {*new}
    mine = [model for model in models if model.__module__.startswith("cimenv.") and model.__name__ != "Header"]
    assert len(mine) > 25
    unbounded = [
        f"{model.__name__}.{name}"
        for model in mine
        for name, field in model.model_json_schema().get("properties", {}).items()
        for part in (field, *field.get("anyOf", ()))
        if part.get("type") == "integer" and not {"maximum", "const", "enum"} & {*part}
    ]
    assert unbounded == []


@pytest.mark.parametrize("value", [True, 1.0, "3", None, 0, -(10**5_000), 11, 10**30, 10**5_000], ids=name_of)
def test_checked_int(value):
    with pytest.raises(ConfigError, match=r"^chips: got .*; give an int of at (least 1|most 10)\.$"):
        checked_int("chips", value, 1, 10)
    assert checked_int("chips", np.int32(10), 1, 10) == 10


def test_messages_are_one_printable_line_of_bounded_length():
    assert one_line("a\nb\t\x1b[31m\x00 é") == "a b \\x1b[31m\\x00 é"
    assert len(one_line("x" * 10**6)) < 200 and len(one_line("x " * 10**6)) <= 1_000
    assert str(ConfigError("a\nb")) == "a b"
    assert "\n" not in str(UnknownNameError("recipe", "a\nb" * 1_000, ["standard"]))


class Failing:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (10**5_000, "an int of 16610 bits"),
        ([10**5_000], "a list"),
        (Failing(), "a Failing"),
        ("x" * 100, f"'{'x' * 76}..."),
        (np.array([1.0, 2.0]), "array([1., 2.])"),
    ],
    ids=name_of,
)
def test_brief_shows_anything(value, text):
    assert brief(value) == text


@pytest.mark.parametrize("name", [3, None, ["standard"], {"standard"}, "standart", np.array([1, 2])])
def test_known_name(name):
    with pytest.raises(UnknownNameError, match="Unknown recipe"):
        known_name("recipe", name, {"standard": 1})
    assert known_name("recipe", "standard", {"standard": 1}) == "standard"
