"""Where a store lies: relative roots, no home, a folder that is gone, leftovers."""

import gc
import os
import warnings
from pathlib import Path

import pytest
from stored import BANK, LARGE, SMALL, fill, one_sentence, same

from cimenv.core.errors import StoreError
from cimenv.core.store import INDEX, Store, default_root
from cimenv.core.store import index as index_module


def test_a_relative_root_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIMENV_CACHE", "named")
    fill("layer")
    stores = [Store("given", layers=["layer"]), Store(layers=["layer"])]
    monkeypatch.chdir("elsewhere")
    for store in stores:
        store.put("k", SMALL)
        assert same(store.get(BANK), LARGE)
    assert [store.root for store in stores] == [tmp_path / "given", tmp_path / "named"]
    assert list(Path.cwd().iterdir()) == []


def test_without_a_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("CIMENV_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert default_root().is_absolute()  # the system knows one

    def unknown(*args):
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    for root in (None, "~/cache", "~nobody-here/cache"):
        with pytest.raises(StoreError, match=r"No home folder is known for .+; set CIMENV_CACHE or HOME to") as e:
            Store(root)
        assert one_sentence(e.value)
    assert Store("cache").root == tmp_path / "cache"
    assert list(tmp_path.iterdir()) == []


def test_from_a_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreError, match="The folder that cache is relative to is gone; give an absolute path"):
        Store("cache")
    Store(tmp_path / "cache").put("k", SMALL)


# What killed writers leave


def test_leftovers_go_with_the_next_opening(tmp_path):
    fill(tmp_path)
    leftovers = [tmp_path / "objects" / "name.0123.tmp", tmp_path / f"{INDEX}.0123.tmp"]
    for path in leftovers:
        path.write_bytes(b"half")
        os.utime(path, (2**33, 2**33))  # of a clock that has been set back since
    assert same(Store(tmp_path).get(BANK), LARGE)
    assert not any(path.exists() for path in leftovers)


def test_an_entry_that_shrinks_leaves_no_file(tmp_path):
    store = Store(tmp_path)
    store.put("k", LARGE)
    store.put("k", SMALL)
    assert list((tmp_path / "objects").iterdir()) == [] and same(Store(tmp_path).get("k"), SMALL)


def test_a_store_in_a_circle_closes_its_index_first(tmp_path):
    """Python 3.13 warns of a connection that the collector meets before the store that would close it."""
    held = len(index_module._OPEN)
    for _ in range(20):
        store = Store(tmp_path)
        store.put("k", SMALL)
        store.itself = store
    del store
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert len(index_module._OPEN) <= held
