"""`cimenv cache` where the folder is damaged: every command works, says what it did, and mends it."""

import json

import pytest
from typer.testing import CliRunner

from cimenv.cli import app
from cimenv.core.store import INDEX, Record, Store


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("CIMENV_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "cache")
    store.put_many([(f'{{"stage":"evaluation","n":{n}}}', Record({"n": n})) for n in range(40)])
    store.close()
    return store.root


@pytest.mark.filterwarnings("ignore:The index .* is damaged")
@pytest.mark.parametrize("at", [3, 18, 59, 105])
def test_every_command_with_one_bad_byte_in_the_index(root, at):
    index = root / INDEX
    sound = index.read_bytes()
    for command in (["info"], ["info", "--json"], ["verify"], ["clear", "--yes"]):
        data = bytearray(sound)
        data[at] ^= 0xFF
        index.write_bytes(data)
        found = CliRunner().invoke(app, ["cache", *command])
        assert found.exit_code == (command == ["verify"]), found.output
        if command == ["info", "--json"]:
            assert json.loads(found.stdout)["kinds"]["evaluation"]["entries"] == 40
        if command == ["verify"]:
            assert f"damaged: index {INDEX} in {root} (made again)\n1 of " in found.stdout
        for _ in range(2):  # `info` need not notice, and then `verify` does
            again = CliRunner().invoke(app, ["cache", "verify"])
        assert again.exit_code == 0 and "entries are sound" in again.stdout
    assert Store(root).info()["entries"] == 0
