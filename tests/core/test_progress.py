import time

from cimenv.core.progress import Told, bar, duration


def test_what_an_earlier_run_did_counts_as_done_and_not_in_the_rate(monkeypatch, capsys):
    clock = iter([0.0, 2.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with bar("counting", 80, done=40) as advance:
        advance(10)  # 10 in 2.5 s: 4 a second; the other 30 take 7.5 s
    assert capsys.readouterr().err == "counting: 50/80, 4.0/s, 8 s left\n"


def seconds(monkeypatch, *moments):
    clock = iter(moments)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))


def test_a_log_gets_one_line_and_another_every_ten_minutes(monkeypatch, capsys):
    seconds(monkeypatch, 0.0, 1.0, 2.5, 3.0, 200.0, 600.0, 603.0, 700.0)
    with bar("counting", 70) as advance:
        for _ in range(7):
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["counting: 20/70", "counting: 60/70"]  # at 2.5 s and 603 s


def test_a_line_that_is_said_stands_for_the_logs_own(monkeypatch, capsys):
    seconds(monkeypatch, 0.0, 1.0, 3.0, 602.0)
    with bar("counting", 30) as shown:
        shown.say("about an hour", instead=True)
        shown(10)
        shown.describe("counting on", 40)
        shown(10)
    assert capsys.readouterr().err.splitlines() == ["about an hour", "counting on: 20/40, 0.0/s, 602 s left"]


def test_other_lines_leave_the_logs_own(monkeypatch, capsys):
    seconds(monkeypatch, 0.0, 3.0)
    with bar("counting", 30) as shown:
        shown.say("found")
        shown(10)
    assert capsys.readouterr().err.splitlines() == ["found", "counting: 10/30, 3.3/s, 6 s left"]


def test_a_terminals_bar_can_be_told_more(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with bar("counting [1]", 30, done=10) as shown:
        assert isinstance(shown, Told)
        shown.say("about [bold] an hour")
        shown(5)
        shown.describe("counting on", 40)
        (task,) = shown.bar.tasks
        assert (task.description, task.total, task.completed) == ("counting on", 40, 15)
    assert capsys.readouterr().err.strip() == "about [bold] an hour"  # names are no markup


def test_durations_for_readers():
    assert [duration(s) for s in (0.2, 45.4, 119.0, 5400.0, 9000.0)] == ["0 s", "45 s", "2 min", "90 min", "2.5 h"]
