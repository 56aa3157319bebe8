"""Registries: names, a class of one's own by its name and by where it is, and what is refused."""

import json
import pickle
from typing import ClassVar

import pytest
from pydantic import Field

from cimenv.core.config import Frozen
from cimenv.core.errors import ConfigError, UnknownNameError
from cimenv.core.modules import untrusted
from cimenv.core.registry import Registry, where_is
from cimenv.core.tagged import Tagged


class Shape(Tagged):
    """A shape.

    Source: Euclid, Elements.
    """

    kind: str

    @classmethod
    def registry(cls):
        """Return the registry of shapes."""
        return SHAPES

    def area(self) -> float:
        """Return the area."""
        raise NotImplementedError


class Square(Shape):
    """A square."""

    kind: str = "square"
    side: float = Field(1.0, gt=0)


class Inner(Frozen):
    """Holds a shape."""

    shape: Shape = Square()


SHAPES: Registry[type[Shape]] = Registry("shape", Shape, {"square": f"{__name__}:Square"})


@pytest.fixture
def shapes(monkeypatch):
    fresh: Registry[type[Shape]] = Registry("shape", Shape, {"square": f"{__name__}:Square"})
    monkeypatch.setitem(globals(), "SHAPES", fresh)
    return fresh


class Disc(Shape):
    """A disc, of the user's own.

    Source: Archimedes, Measurement of a circle.
    """

    kind: str = "disc"
    radius: float = 1.0
    hidden: ClassVar[int] = 3


def test_names_and_entries(shapes):
    assert shapes.names == ("square",) and "square" in shapes and len(shapes) == 1 and list(shapes) == ["square"]
    assert shapes["square"] is Square and shapes.find("square") is Square and dict(shapes.items()) == {"square": Square}
    for ask in (shapes.find, shapes.__getitem__):
        with pytest.raises(UnknownNameError, match=r"Unknown shape 'sqare'; known: square. Did you mean 'square'\?"):
            ask("sqare")


def test_a_class_of_ones_own_has_a_name_once(shapes):
    assert shapes.register(Disc) is Disc and shapes["disc"] is Disc and shapes.names == ("square", "disc")
    assert shapes.register(Disc) is Disc  # a notebook's cell, run twice

    class Other(Shape):
        kind: str = "disc"

    class Mine(Shape):
        kind: str = "square"

    for taken in (Other, Mine):
        with pytest.raises(ConfigError, match=f"shape: the name '{taken.model_fields['kind'].default}' is taken"):
            shapes.register(taken)


def test_what_is_none_of_the_kind_is_refused(shapes):
    class Nameless(Shape):
        pass

    with pytest.raises(ConfigError, match=r"give a subclass of .*Shape"):
        shapes.register(Inner)
    with pytest.raises(ConfigError, match="give a subclass of"):
        shapes.register(Disc())
    with pytest.raises(ConfigError, match="shape: Nameless has no kind; give it one"):
        shapes.register(Nameless)
    with pytest.raises(ConfigError, match="shape: got json:dumps; give a subclass of"):
        shapes.find("json:dumps")


def test_a_field_takes_every_subclass_and_gives_back_its_fields(shapes):
    assert Inner(shape={"kind": "square", "side": 2}).shape == Square(side=2)
    small, large = (Inner(shape=Disc(radius=r)) for r in (1.0, 2.0))
    assert small.canonical() != large.canonical()
    assert small.model_dump()["shape"] == {"kind": where_is(Disc), "radius": 1.0}
    for made in (small, large, Inner(shape=Square(side=3))):
        assert Inner(**made.model_dump()) == made
        assert Inner.model_validate_json(made.model_dump_json()) == made
        assert Inner(**json.loads(made.canonical())) == made
        assert pickle.loads(pickle.dumps(made)) == made


def test_a_subclass_of_a_built_in_is_another(shapes):
    class Large(Square):
        side: float = 5.0

    made = Inner(shape=Large())
    assert made.model_dump()["shape"]["kind"].endswith("Large")
    assert type(Inner(**made.model_dump()).shape) is Large


def test_messages_name_the_whole_path(shapes):
    with pytest.raises(ConfigError) as told:
        Inner(shape={"kind": "square", "side": -1})
    assert str(told.value) == "Inner.shape.square.side: got -1; input should be greater than 0."
    with pytest.raises(ConfigError, match=r"Inner\.shape: unknown shape 'sqare'; known: square"):
        Inner(shape={"kind": "sqare"})
    for wrong in (3, {}, {"side": 2}, None):
        with pytest.raises(ConfigError, match=r"Inner\.shape: .*give a mapping with its kind, one of square"):
            Inner(shape=wrong)
    for kind in (3, None, ["square"]):
        with pytest.raises(ConfigError, match=r"Inner\.shape: unknown shape"):
            Inner(shape={"kind": kind})


def test_a_file_of_others_imports_nothing(shapes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs_shape.py").write_text("raise SystemExit('imported')")
    with untrusted("table.csv"):
        with pytest.raises(ConfigError, match=r"'theirs_shape:Shape' is named by table\.csv, .* not imported"):
            Inner(shape={"kind": "theirs_shape:Shape"})
        assert Inner(shape={"kind": "square"}).shape == Square()
        shapes.register(Disc)
        assert Inner(shape={"kind": where_is(Disc)}).shape == Disc()  # known already


def test_a_file_of_ones_own_is_a_module(shapes, tmp_path):
    (tmp_path / "my_shapes.py").write_text(
        f"from {__name__} import Shape\n\nclass Line(Shape):\n    kind: str = 'line'\n    length: float = 1.0\n"
    )
    made = Inner(shape={"kind": f"{tmp_path}/my_shapes.py:Line", "length": 2.0})
    assert made.model_dump()["shape"] == {"kind": "my_shapes:Line", "length": 2.0}
    assert Inner(**made.model_dump()) == made


def test_rows_for_the_documentation(shapes):
    shapes.register(Disc)
    square, disc = shapes.rows()
    assert (square.name, square.summary, square.source) == ("square", "A square.", "")
    assert (disc.summary, disc.source) == ("A disc, of the user's own.", "Archimedes, Measurement of a circle.")
