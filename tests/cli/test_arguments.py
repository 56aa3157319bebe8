"""What the text of an option means."""

import pytest

from cimenv.cli.arguments import parse_placement, parse_share
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


@pytest.mark.parametrize(
    ("text", "share"),
    [("0.05", 0.05), ("5%", 0.05), ("5 %", 0.05), ("1", 1.0), ("500%", 5.0), ("0", 0.0), ("1e-3", 1e-3)],
)
def test_shares_are_fractions_or_percents(text, share):
    assert parse_share("max-weights", text) == pytest.approx(share)


def test_a_share_above_the_whole_is_questioned():
    with pytest.raises(CimenvError, match=r"max-weights: 5 is 500% of the backbone's; did you mean 0\.05, which is 5%"):
        parse_share("max-weights", "5")
    with pytest.raises(CimenvError, match=r"Write 150% if that much may be added"):
        parse_share("max-macs", "1.5")


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "-5%", "five", "", "%", "5%%", "1:30", "9" * 5000])
def test_other_shares_are_refused_in_a_short_sentence(text):
    with pytest.raises(CimenvError, match="max-weights: got") as error:
        parse_share("max-weights", text)
    assert len(str(error.value)) < 200
