import time

from cimenv.core.progress import bar


def test_what_an_earlier_run_did_counts_as_done_and_not_in_the_rate(monkeypatch, capsys):
    clock = iter([0.0, 2.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with bar("counting", 80, done=40) as advance:
        advance(10)  # 10 in 2.5 s: 4 a second; the other 30 take 7.5 s
    assert capsys.readouterr().err == "counting: 50/80, 4.0/s, 8 s left\n"
