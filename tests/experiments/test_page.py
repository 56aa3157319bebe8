"""The page of results: what others wrote is text on it."""

from cimenv.core.inert import in_markdown
from experiments.agents.page import page
from experiments.agents.results import rows_of
from experiments.lab.rows import write_csv


def test_a_page_shows_tags_and_bars_as_they_are(tmp_path):
    name = '<script>alert("a|b")</script>[x](javascript:1)`c`\n=1'
    write_csv(tmp_path / "runs.csv", [{"contender": name, "regret_1": 0.5}])
    (row,) = rows_of(tmp_path / "runs.csv")
    assert row["contender"] == in_markdown(name) and row["regret_1"] == "0.5"
    text = f"## {row['contender']}\n\n| who | regret |\n|---|---:|\n| {row['contender']} | 1 % |\n"
    shown, inert = page(name, text, {}), "&lt;script&gt;alert(&quot;a|b&quot;)&lt;/script&gt;[x](javascript:1)"
    assert "<script>alert" not in shown and shown.count(inert) == 4
    assert "<td>1 %</td>" in shown
