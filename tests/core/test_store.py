import errno
import multiprocessing
import os
import pickle
import signal
import sqlite3
import time
import warnings

import numpy as np
import pytest

from cimenv.core.errors import StoreError
from cimenv.core.store import INDEX, INLINE_BYTES, Record, Store

SMALL = Record({"correct": [1, 2], "name": "a"}, {"x": np.arange(5, dtype=np.int16)})
LARGE = Record({"n": 1}, {"w": np.arange(30_000, dtype=np.float32).reshape(100, 300)})  # 120 kB: a file of its own
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def same(a: Record, b: Record) -> bool:
    equal = a.meta == b.meta and a.arrays.keys() == b.arrays.keys()
    return equal and all(
        np.array_equal(a.arrays[k], b.arrays[k]) and a.arrays[k].dtype == b.arrays[k].dtype for k in a.arrays
    )


def objects(root):
    return sorted((root / "objects").glob("*"))


def filled(root) -> None:
    store = Store(root)
    store.put("small", SMALL)
    store.put("large", LARGE)
    store.close()  # folds the write-ahead log into the index


def damage(root, key: str) -> None:
    if key == "large":
        (path,) = objects(root)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # one flipped bit
        path.write_bytes(data)
    else:
        with sqlite3.connect(root / "index.sqlite") as index:
            index.execute("UPDATE entries SET payload = substr(payload, 1, 100) WHERE key = ?", (key,))
        index.close()


def never() -> Record:
    raise AssertionError("computed again")


def child(work, *args):
    """Start a forked process in which warnings are no errors."""

    def run():
        warnings.simplefilter("ignore")
        work(*args)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def wait_for(path, seconds=20.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.01)


@pytest.mark.parametrize(("key", "record", "files"), [("small", SMALL, 0), ("large", LARGE, 1)])
def test_round_trip(tmp_path, key, record, files):
    assert (len(record.to_bytes(key)) > INLINE_BYTES) == (files == 1)
    assert same(Store(tmp_path).once(key, lambda: record), record)
    assert same(Store(tmp_path).once(key, never), record)
    assert len(objects(tmp_path)) == files
    assert Store(tmp_path).get("other") is None


def test_info_counts_and_clear_empties(tmp_path):
    filled(tmp_path)
    info = Store(tmp_path).info()
    assert (info["entries"], info["bytes"]) == (2, len(SMALL.to_bytes("small")) + len(LARGE.to_bytes("large")))
    Store(tmp_path).clear()
    assert Store(tmp_path).info()["entries"] == 0
    assert objects(tmp_path) == []


def test_info_sorts_by_kind_and_lists_layers(tmp_path):
    filled(tmp_path / "layer")
    store = Store(tmp_path / "root", layers=[tmp_path / "layer", tmp_path / "missing"])
    assert (store.info()["entries"], store.info()["bytes"], store.info()["kinds"]) == (0, 0, {})
    assert store.keys() == [] and store.verify() == []
    assert not (tmp_path / "root").exists()  # looking makes no folder
    keys = ['{"stage":"bank","backbone":{"stage":"backbone"}}', '{"stage":"bank"}', '{"table":1}', "plain"]
    store.put_many((key, SMALL) for key in keys)
    kinds, sizes = store.info()["kinds"], [len(SMALL.to_bytes(key)) for key in keys]
    assert kinds["bank"] == {"entries": 2, "bytes": sizes[0] + sizes[1]}
    assert kinds["other"] == {"entries": 2, "bytes": sizes[2] + sizes[3]}
    assert [layer["entries"] for layer in store.info()["layers"]] == [2, 0]


def test_clear_gives_the_space_back(tmp_path):
    store = Store(tmp_path)
    store.put_many((f"k{i}", SMALL) for i in range(400))
    (tmp_path / "damaged-0-index.sqlite").write_text("left by a rebuild")
    store.clear()
    store.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20_000  # 400 entries took 200 kB


@pytest.mark.parametrize("key", ["small", "large"])
def test_damaged_payload_is_reported_and_computed_again(tmp_path, key):
    filled(tmp_path)
    damage(tmp_path, key)
    fresh = {"small": SMALL, "large": LARGE}[key]
    with pytest.warns(UserWarning, match="is damaged; it is computed again"):
        assert same(Store(tmp_path).once(key, lambda: fresh), fresh)
    assert same(Store(tmp_path).once(key, never), fresh)


def test_missing_file_is_reported_and_computed_again(tmp_path):
    filled(tmp_path)
    objects(tmp_path)[0].unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert Store(tmp_path).get("large") is None
    assert Store(tmp_path).get("large") is None  # the second look is silent: warnings are errors here


@pytest.mark.parametrize("where", ["head", "pages", "cut"])
def test_damaged_index_is_rebuilt_from_the_files(tmp_path, where):
    store = Store(tmp_path)
    store.put_many([(f"k{i}", SMALL) for i in range(400)])
    store.put("large", LARGE)
    store.close()
    index = tmp_path / "index.sqlite"
    data = bytearray(index.read_bytes())
    assert len(data) > 20 * 4096
    if where == "head":
        data[:100] = b"x" * 100
    elif where == "pages":
        data[4096 : 20 * 4096] = b"\xa5" * (19 * 4096)
    else:
        data = data[: len(data) // 2]
    index.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged; it is rebuilt from the files beside it"):
        found = Store(tmp_path).get("large")
    assert same(found, LARGE)
    assert same(Store(tmp_path).once("large", never), LARGE)
    assert same(Store(tmp_path).once("k0", lambda: SMALL), SMALL)


def shipped(folder, journal: str) -> None:
    filled(folder)
    index = sqlite3.connect(folder / "index.sqlite")
    index.execute(f"PRAGMA journal_mode={journal}")
    index.close()


def picture(folder):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_layer_is_read_and_never_written(tmp_path, journal):
    layer, root = tmp_path / "layer", tmp_path / "root"
    shipped(layer, journal)
    before = picture(layer)
    store = Store(root, layers=[layer])
    assert same(store.once("small", never), SMALL)
    assert same(store.once("large", never), LARGE)
    assert not root.exists()  # a hit in a layer makes no folder
    store.put("small", Record({"n": 2}))
    store.once("new", lambda: LARGE)
    assert store.get("small").meta == {"n": 2}  # the root lies above its layers
    store.clear()
    assert same(store.get("small"), SMALL)
    assert picture(layer) == before


def test_damage_in_a_layer_is_computed_again_above_it(tmp_path):
    layer = tmp_path / "layer"
    shipped(layer, "delete")
    damage(layer, "large")
    before = picture(layer)
    store = Store(tmp_path / "root", layers=[layer])
    with pytest.warns(UserWarning, match="is damaged"):
        assert same(store.once("large", lambda: LARGE), LARGE)
    assert same(store.once("large", never), LARGE)
    assert picture(layer) == before


@pytest.mark.parametrize("below", ["", "deeper"])
def test_folder_that_is_a_file(tmp_path, below):
    (tmp_path / "file").write_text("not a folder")
    for call in (lambda s: s.once("k", lambda: SMALL), lambda s: s.put("k", SMALL), lambda s: s.info()):
        with pytest.raises(StoreError) as caught:
            call(Store(tmp_path / "file" / below))
        text = str(caught.value)
        assert text.startswith(f"The cache folder {tmp_path / 'file'}")
        assert "set CIMENV_CACHE to a folder you can write." in text
        assert "\n" not in text


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_folder_that_nobody_can_make():
    with pytest.raises(StoreError, match=r"cannot be written .* set CIMENV_CACHE"):
        Store("/proc/nonexistent/cache").put("k", SMALL)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_full_disk(tmp_path, monkeypatch, call):
    filled(tmp_path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(StoreError, match=r"No space left on device.*free some space"):
            Store(tmp_path).put("another", LARGE)
    assert [p.suffix for p in objects(tmp_path)] == [".safetensors"]
    assert same(Store(tmp_path).once("small", never), SMALL)
    assert same(Store(tmp_path).once("large", never), LARGE)
    assert Store(tmp_path).get("another") is None


@needs_fork
def test_the_index_cannot_grow(tmp_path):
    """A limit of the system on file sizes, in a process of its own: SQLite itself runs out of room."""
    filled(tmp_path)

    def write():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        many = ((f"key {k}", Record({"k": k}, {"x": np.arange(500.0)})) for k in range(500))  # 2 MB
        with pytest.raises(StoreError, match=r"cannot be written .*free some space"):
            Store(tmp_path).put_many(many)

    process = child(write)
    process.join()
    assert process.exitcode == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Store(tmp_path)
        assert same(store.once("small", never), SMALL) and same(store.once("large", never), LARGE)
        assert store.verify() == []
        store.put("another", SMALL)
        assert same(Store(tmp_path).once("another", never), SMALL)


@needs_fork
def test_killed_while_writing(tmp_path):
    root, ready = tmp_path / "root", tmp_path / "ready"
    filled(root)

    def write():
        def stuck(*args):
            ready.touch()
            time.sleep(60)

        os.replace = stuck
        Store(root).once("another", lambda: LARGE)

    process = child(write)
    wait_for(ready)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [p.suffix for p in objects(root)].count(".tmp") == 1
    assert same(Store(root).once("another", lambda: LARGE), LARGE)  # no warning: they are errors here
    assert same(Store(root).once("small", never), SMALL)
    for leftover in root.glob("objects/*.tmp"):
        os.utime(leftover, (0, 0))  # verify() leaves young ones to the writers that may still be at work
    assert Store(root).verify() == []
    assert [p.suffix for p in objects(root)] == [".safetensors", ".safetensors"]


@needs_fork
def test_killed_while_computing_gives_the_lock_back(tmp_path):
    ready = tmp_path / "ready"

    def compute():
        ready.touch()
        time.sleep(60)

    process = child(lambda: Store(tmp_path).once("k", compute))
    wait_for(ready)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    start = time.monotonic()
    assert same(Store(tmp_path).once("k", lambda: SMALL), SMALL)
    assert time.monotonic() - start < 10


@needs_fork
def test_eight_processes_compute_once(tmp_path):
    log, answers = tmp_path / "log", tmp_path / "answers"
    answers.mkdir()

    def compute():
        with open(log, "a") as file:
            file.write("x")
        time.sleep(0.3)
        return Record({"pid": os.getpid()}, LARGE.arrays)

    def ask(number):
        record = Store(tmp_path / "root").once("cold", compute)
        (answers / f"{number}").write_text(f"{record.meta['pid']} {record.arrays['w'].sum()}")

    processes = [child(ask, number) for number in range(8)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert log.read_text() == "x"
    assert len({path.read_text() for path in answers.iterdir()}) == 1
    assert len(list(answers.iterdir())) == 8


@needs_fork
def test_who_waits_is_told_for_what(tmp_path):
    ready = tmp_path / "ready"

    def slow():
        ready.touch()
        time.sleep(2.5)  # a waiter speaks up after 1 s
        return SMALL

    process = child(lambda: Store(tmp_path).once("k", slow))
    wait_for(ready)
    with pytest.warns(UserWarning, match="Waiting for another process that computes the bank"):
        assert same(Store(tmp_path).once("k", never, what="the bank"), SMALL)
    process.join()


def test_failed_compute_leaves_nothing_and_frees_the_lock(tmp_path):
    with pytest.raises(AssertionError, match="computed again"):
        Store(tmp_path).once("k", never)
    assert same(Store(tmp_path).once("k", lambda: SMALL), SMALL)


def test_pickle_keeps_paths_only(tmp_path):
    filled(tmp_path / "layer")
    store = Store(tmp_path / "root", layers=[tmp_path / "layer"])
    store.put("k", LARGE)
    data = pickle.dumps(store)
    assert len(data) < 1_000
    copy = pickle.loads(data)
    assert (copy.root, copy.layers) == (store.root, store.layers)
    assert same(copy.once("k", never), LARGE)
    assert same(copy.once("small", never), SMALL)


def test_verify_drops_damage_and_leftovers(tmp_path):
    filled(tmp_path)
    Store(tmp_path).put("sound", SMALL)
    damage(tmp_path, "small")
    damage(tmp_path, "large")
    leftover = tmp_path / "objects" / "killed.1.abc.tmp"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    assert sorted(Store(tmp_path).verify()) == ["large", "small"]
    assert not list(tmp_path.glob("objects/*.tmp"))
    assert Store(tmp_path).verify() == []
    assert Store(tmp_path).info()["entries"] == 1
    assert Store(tmp_path).get("small") is None  # silent: the damage is gone


def test_verify_names_a_damaged_index(tmp_path):
    filled(tmp_path)
    index = tmp_path / "index.sqlite"
    data = bytearray(index.read_bytes())
    data[2 * 4096 + 100 :] = b"x" * len(data[2 * 4096 + 100 :])
    index.write_bytes(data)
    assert Store(tmp_path).verify() == [INDEX]
    assert Store(tmp_path).keys() == ["large", "small"]
    assert Store(tmp_path).verify() == []


def test_verify_reads_layers_and_leaves_them(tmp_path):
    layer = tmp_path / "layer"
    shipped(layer, "delete")
    damage(layer, "large")
    before = picture(layer)
    store = Store(tmp_path / "root", layers=[layer])
    assert (store.verify(), store.verify_layers()) == ([], [(layer, "large")])
    assert picture(layer) == before


def test_root_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CIMENV_CACHE", str(tmp_path / "named"))
    Store().put("k", SMALL)
    assert (tmp_path / "named" / "index.sqlite").exists()
