"""What a store does where its index, its folder or its disk fails."""

import errno
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from stored import BANK, KEYS, LARGE, SMALL, fill, one_sentence, same

from cimenv.core.errors import StoreError
from cimenv.core.store import INDEX, Record, Store
from cimenv.core.store import index as index_module
from cimenv.core.store.record import key_of

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def never() -> Record:
    raise AssertionError("computed again")


def fork(work, *args):
    """Start a forked process in which warnings are no errors."""

    def run():
        warnings.simplefilter("ignore")
        work(*args)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def codes(processes) -> list[int | None]:
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


# An index with one bad byte


def survives(sound, root, at: int, bits: int) -> int:
    """Damage one byte of a copy, use every command, and return how many entries are lost."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(sound, root)
    damaged = bytearray((root / INDEX).read_bytes())
    damaged[at] ^= bits
    (root / INDEX).write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = Store(root)
        store.info()
        assert same(store.once(BANK, lambda: LARGE), LARGE), at
        store.verify()
    again = Store(root)  # from here on a warning is an error
    assert again.verify() == [], at
    keys = again.keys()
    assert set(keys) <= {BANK, *KEYS} and BANK in keys
    assert all(again.get(key) is not None for key in keys)
    again.put("new", SMALL)
    again.clear()
    assert again.info()["entries"] == 0
    return 1 + len(KEYS) - len(keys)


# SQLite's magic, page size, format versions, number of pages, text encoding; root page; schema; trees of both roots.
PLACES = (3, 16, 18, 19, 28, 59, 100, 105, 4000, 4096, 8192, 8200)


def test_one_bad_byte_in_the_index_is_repaired(tmp_path):
    fill(tmp_path / "sound")
    lost = {at: survives(tmp_path / "sound", tmp_path / "store", at, 0xFF) for at in PLACES}
    assert lost.pop(4096) == len(KEYS)  # the root of the tree: what lies in files is kept, the small entries are not
    assert max(lost.values()) <= 5  # the entries of one page at most


@pytest.mark.slow
def test_a_thousand_bad_bytes_one_at_a_time(tmp_path):
    fill(tmp_path / "sound")
    size, draw = (tmp_path / "sound" / INDEX).stat().st_size, random.Random(0)
    places = [*range(100), *draw.sample(range(100, size), 900)]
    lost = [survives(tmp_path / "sound", tmp_path / "store", at, draw.randrange(1, 256)) for at in places]
    assert np.mean(np.array(lost) <= 5) > 0.98


def test_a_damaged_index_in_a_layer_is_reported_and_missed(tmp_path):
    fill(tmp_path / "layer")
    index = tmp_path / "layer" / INDEX
    index.write_bytes(b"x" * 100 + index.read_bytes()[100:])
    store = Store(tmp_path / "root", layers=[tmp_path / "layer"])
    assert [layer["entries"] for layer in store.info()["layers"]] == [0]
    assert store.verify_layers() == [(tmp_path / "layer", INDEX)]
    with pytest.warns(UserWarning, match="is damaged and cannot be repaired there; it is computed again"):
        assert same(store.once(BANK, lambda: LARGE), LARGE)
    assert not list((tmp_path / "layer").glob("*.tmp"))


# A deleted index


@pytest.mark.parametrize("left", [(), ("index.sqlite-wal",)])
def test_files_are_found_again_without_an_index(tmp_path, left):
    fill(tmp_path)
    (tmp_path / INDEX).unlink()
    for name in left:
        (tmp_path / name).write_bytes(b"of the deleted index")
    with pytest.warns(UserWarning, match="is missing; it is rebuilt from the files beside it"):
        assert same(Store(tmp_path).once(BANK, never), LARGE)
    assert Store(tmp_path).keys() == [BANK] and Store(tmp_path).verify() == []


def test_an_index_deleted_under_an_open_store(tmp_path):
    fill(tmp_path)
    store = Store(tmp_path)
    assert same(store.get(BANK), LARGE)
    (tmp_path / INDEX).unlink()
    with pytest.warns(UserWarning, match="is missing"):
        assert same(store.get(BANK), LARGE)
    store.put(KEYS[0], SMALL)
    assert sorted(Store(tmp_path).keys()) == sorted([BANK, KEYS[0]])


@pytest.mark.parametrize("where", ["body", "key", "meta"])
def test_a_damaged_file_is_not_found_again(tmp_path, where):
    """Without an index only the file's own checksum can tell."""
    fill(tmp_path)
    (path,) = (tmp_path / "objects").iterdir()
    data = bytearray(path.read_bytes())
    at = {"body": len(data) - 5, "key": data.index(b"bank"), "meta": data.index(b'\\"n\\":1') + 6}[where]
    data[at] ^= 1
    path.write_bytes(data)
    (tmp_path / INDEX).unlink()
    assert Store(tmp_path).get(BANK) is None
    assert key_of(bytes(data)) is None and key_of(LARGE.to_bytes("k")) == "k"


def test_files_that_the_index_lacks_are_found_by_verify(tmp_path):
    """Killed between the file and its row."""
    fill(tmp_path)
    store = Store(tmp_path)
    store._own.index.write(lambda index: index.execute("DELETE FROM entries WHERE key = ?", (BANK,)))
    assert store.get(BANK) is None
    assert store.verify() == [] and same(store.get(BANK), LARGE)


@needs_fork
@pytest.mark.parametrize(("rounds", "users"), [(3, 4), pytest.param(36, 8, marks=pytest.mark.slow)])
def test_many_processes_find_the_same_index_damaged(tmp_path, rounds, users):
    """Each reads what was there, writes something of its own, and finds it."""

    def use(root, number, start):
        store = Store(root)
        time.sleep(max(0, start - time.monotonic()))
        assert same(store.once(BANK, never), LARGE)
        for n in range(5):
            store.put(f"{number} {n}", SMALL)
            assert same(store.get(f"{number} {n}"), SMALL)

    for at in range(rounds):
        root = tmp_path / str(at)
        fill(root)
        index = root / INDEX
        if at % 3 == 2:
            index.unlink()
        else:  # its header, or all pages but the first
            cut = (0, 100) if at % 3 else (4096, None)
            data = bytearray(index.read_bytes())
            data[slice(*cut)] = b"\xa5" * len(data[slice(*cut)])
            index.write_bytes(data)
        start = time.monotonic() + 0.1
        assert codes([fork(use, root, number, start) for number in range(users)]) == [0] * users
        keys = Store(root).keys()
        assert {BANK, *(f"{number} {n}" for number in range(users) for n in range(5))} <= set(keys)
        assert Store(root).verify() == [] and not list(root.glob("*.tmp"))
        shutil.rmtree(root)


# A final write that fails


def full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_finished_work_survives_a_write_that_fails(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        words = (
            r"^The bank is finished, but kept in memory only: The cache folder .*No space left.*free some space or set"
        )
        with pytest.warns(UserWarning, match=words):
            assert same(store.once(BANK, lambda: LARGE, "the bank"), LARGE)
        assert same(store.once(BANK, never), LARGE)  # by this process
    assert Store(tmp_path).get(BANK) is None
    store.put(KEYS[0], SMALL)  # there is room again
    assert same(Store(tmp_path).get(BANK), LARGE)


@pytest.fixture
def tiny_disk(tmp_path):
    """Give a folder on a disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("left", [150_000, 60_000, 20_000, 4_096, 0])
def test_a_disk_that_is_really_full(tiny_disk, left):
    ballast = tiny_disk / "ballast"
    try:
        with ballast.open("wb") as file:
            while shutil.disk_usage(tiny_disk).free > left:
                file.write(b"x" * 1024)
                file.flush()
    except OSError:
        pass
    store, kept, refused = Store(tiny_disk / "cache"), [], []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(4):  # 120 kB each
            try:
                assert same(store.once(f"large {number}", lambda: LARGE), LARGE)
                kept.append(f"large {number}")
            except StoreError as error:  # the lock itself has no room
                refused.append(one_sentence(error))
    assert len(said) >= len(kept) - 1
    assert all("free some space" in text for text in [*refused, *(str(warning.message) for warning in said)])
    assert all(same(store.get(key), LARGE) for key in kept)  # from the disk or from memory
    ballast.unlink()
    store.clear()
    store.keep([("small", SMALL)])
    assert same(Store(tiny_disk / "cache").get("small"), SMALL)


def test_a_lock_that_hangs_is_named(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr(index_module, "LOCK_S", 0.2)
    with FileLock(tmp_path / "locks/index.lock"):
        start = time.monotonic()
        with pytest.raises(
            StoreError, match=r"is locked: another process keeps it from being written .* wait for"
        ) as e:
            Store(tmp_path).put("k", SMALL)
        assert one_sentence(e.value) and time.monotonic() - start < 5
        assert same(Store(tmp_path).get(BANK), LARGE)  # what is there is served


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), r"no permission \(.*\); grant it, or set CIMENV_CACHE"),
        (OSError(errno.EROFS, "Read-only file system"), "no permission"),
        (OSError(errno.ENOLCK, "No locks available"), "lies on a disk without file locks"),
        (NotImplementedError("FileSystem does not appear to support flock"), "lies on a disk without file locks"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
    ],
)
def test_a_lock_that_cannot_be_had_is_named_at_once(tmp_path, monkeypatch, error, words):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(StoreError, match=words) as caught:
        Store(tmp_path).once("k", lambda: SMALL)
    assert one_sentence(caught.value)


@pytest.fixture
def unprivileged():
    """Give a folder, and a function that runs work in a process that may not write where others may not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    def run(work, *args):
        def child():
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work(*args)

        return codes([fork(child)])

    yield folder, run
    shutil.rmtree(folder)


def protect(root, mode=0o555) -> None:
    for path in (root, *root.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o444)


@needs_fork
@pytest.mark.parametrize("closed", [True, False])
def test_a_filled_folder_that_cannot_be_written_serves_hits(unprivileged, closed):
    folder, run = unprivileged
    root = folder / "cache"
    fill(root)
    writer = None if closed else Store(root)
    if writer is not None:  # its write-ahead log is not folded into the index yet
        writer.put("late", SMALL)
    protect(root)

    def use():
        store = Store(root)
        assert same(store.once(BANK, never), LARGE) and same(store.once(KEYS[3], never), SMALL)
        assert store.info()["entries"] >= 31 and store.get("absent") is None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            store.keep([("made", SMALL)], "an evaluation")
        assert "An evaluation is finished, but kept in memory only" in str(said[0].message)
        assert same(store.get("made"), SMALL)
        for call in (lambda: store.once("k", never), lambda: store.put("k", SMALL), store.clear):
            with pytest.raises(StoreError, match=r"cannot be written: no permission .*; grant it, or set CIMENV_CACHE"):
                call()

    assert run(use) == [0]
    protect(root, 0o755)


@needs_fork
@pytest.mark.parametrize("part", [".", INDEX, "objects", "locks", "locks/index.lock"])
def test_parts_of_a_folder_that_cannot_be_read_or_written(unprivileged, part):
    folder, run = unprivileged
    root = folder / "cache"
    fill(root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (root / part).chmod(0o000)

    def use():
        store, refused = Store(root), []
        for call in (lambda: store.once("k", lambda: SMALL), lambda: store.get(BANK), store.verify, store.info):
            try:
                call()
            except StoreError as error:
                refused.append(one_sentence(error))
        assert all("no permission" in text for text in refused)

    assert run(use) == [0]
    (root / part).chmod(0o755)


@pytest.mark.slow
def test_a_disk_mounted_read_only_serves_hits(tiny_disk):
    fill(tiny_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    store = Store(tiny_disk)
    assert same(store.once(BANK, never), LARGE) and store.verify_layers() == []
    with pytest.raises(StoreError, match="Read-only file system"):
        store.put("k", SMALL)


# Which folder
