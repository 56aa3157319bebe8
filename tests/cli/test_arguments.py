"""What the text of an option means."""

import pytest

from cimenv.cli.arguments import parse_placement
from cimenv.core.errors import CimenvError
from cimenv.tasks import load_task

MANY = [{"kind": "full", "size": k / 10} for k in range(1, 11)]


@pytest.fixture(scope="module")
def options():
    return load_task("lenet5-fashion-mini").block_options()  # five sites, three options each


@pytest.mark.parametrize("text", ["1,3,1,3,2", "1 3 1 3 2", "13132", " 13132 ", "1, 3, 1, 3, 2"])
def test_placements_are_read_as_they_are_written(options, text):
    assert parse_placement(text, options) == (1, 3, 1, 3, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1313", "got 4 digits; give one option index for each of the 5 sites"),
        ("13134", "option 4 at site 4"),
        ("1.3.1.3.2", "write option indices with commas"),
        ("", "write option indices with commas"),
        ("-1,0,0,0,0", "option -1 at site 0"),
        ("1" * 6000, "got 6000 digits"),
        ("\u0661\u0663\u0661\u0663\u0662", "has 1 entries"),
    ],
)
def test_other_texts_are_refused(options, text, words):
    with pytest.raises(CimenvError, match=words):
        parse_placement(text, options)


def test_digits_alone_are_refused_where_they_may_mean_several_placements():
    options = load_task("toy-4site").with_changes(options={"conv": MANY, "dense": []}).block_options()
    with pytest.raises(CimenvError, match=r"'1111' may mean several.*with commas, such as 0,12,0"):
        parse_placement("1111", options)
    assert parse_placement("10,1,0,0", options) == (10, 1, 0, 0)
