"""The script that gives files of earlier versions their checksums: no number changes, a second run changes nothing."""

import lzma

from forged_enumerations import as_version_2

from cimenv.core.checked_rows import read_rows
from cimenv.tasks.evaluators.table import SHIPPED_TABLES, SUFFIX, load_table
from experiments.lab.add_checksums import every_file, main
from experiments.lab.journal import SIGNED, Journal


def test_every_kind_of_file_gets_checksums(tmp_path, capsys):
    shipped = SHIPPED_TABLES / f"lstm-3{SUFFIX}"
    old = as_version_2(lzma.decompress(shipped.read_bytes()))
    (tmp_path / "packed.csv.xz").write_bytes(lzma.compress(old))
    (tmp_path / "plain.csv").write_bytes(old)
    (tmp_path / "rows.csv").write_text("a,b\r\n1,0.5\r\n")
    (tmp_path / "jobs.jsonl").write_text('{"plan": {}}\n{"job": "a", "rows": [{"x": 0.1}]}\n')
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    assert main(files) == 0
    assert capsys.readouterr().out.count(": written\n") == 4
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert main(files) == 0
    assert capsys.readouterr().out.count(": as it was\n") == 4
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before
    assert (tmp_path / "plain.csv").read_bytes() == lzma.decompress(shipped.read_bytes())
    assert load_table(str(tmp_path / "packed.csv.xz")).rows == load_table("lstm-3").rows
    assert read_rows(tmp_path / "rows.csv") == [{"a": "1", "b": "0.5"}]
    assert Journal(tmp_path / "jobs.jsonl", {}).rows == {"a": [{"x": 0.1}]}


def test_what_cannot_be_converted_is_told(tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("a,b\n1\n")
    assert main([str(tmp_path / "rows.csv"), str(tmp_path / "missing.csv")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 2 and "more or fewer cells" in told and "No such file" in told


def test_results_have_checksums():
    for path in every_file():
        if path.suffix == ".csv":
            assert path.read_text().splitlines()[0].endswith(",check"), path
        elif path.suffix == ".jsonl":
            assert all(map(SIGNED.fullmatch, path.read_text().splitlines())), path
