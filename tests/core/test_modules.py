"""A user's module, by its file."""

import sys

import pytest

from cimenv.core.config import load_object
from cimenv.core.errors import ConfigError


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_file_is_imported_once_and_finds_its_neighbour(tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("FACTOR = 3\n")
    (tmp_path / "mine_of_test.py").write_text("from neighbour_of_mine import FACTOR\n\ndef number(): return FACTOR\n")
    path = f"{tmp_path}/mine_of_test.py"
    assert load_object(f"{path}:number")() == load_object(f"{path}:FACTOR") == 3
    assert load_object(f"{path}:number") is load_object(f"{path}:number")
    assert sys.modules["mine_of_test"].__file__ == path


def test_a_file_named_like_another_module_shadows_nothing(tmp_path):
    (tmp_path / "json.py").write_text("VALUE = 1\n")
    (tmp_path / "wave.py").write_text("VALUE = 2\n")  # of the standard library, not imported yet perhaps
    assert (load_object(f"{tmp_path}/json.py:VALUE"), load_object(f"{tmp_path}/wave.py:VALUE")) == (1, 2)
    import json
    import wave

    assert json.dumps({}) == "{}" and hasattr(wave, "open")


@pytest.mark.parametrize(
    ("text", "words"),
    [("raise RuntimeError('no card')", "RuntimeError: no card"), ("def (", "SyntaxError"), ("x = 1", "no attribute")],
)
def test_a_file_that_fails_is_one_sentence_and_is_tried_again(tmp_path, text, words):
    file = tmp_path / "failing_of_test.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        load_object(f"{file}:number")
    assert len(str(error.value).splitlines()) == 1
    if "x" not in text:
        assert "failing_of_test" not in sys.modules


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no such file; write path/to/file\.py:name"):
        load_object(f"{tmp_path}/missing.py:number")
