"""Files are written whole or not at all, and every fault of the disk is one sentence that names the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from cimenv.core.errors import ConfigError, StoreError
from cimenv.core.writing import append, disk_faults, only_process, whole, write_whole


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])
def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, code):
    path = tmp_path / "result.json"
    write_whole(path, "old")

    def fail(*args):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(ConfigError) as caught:
            write_whole(path, "new")
    assert str(caught.value) == (
        f"Cannot write {path}: {os.strerror(code)}; give a file in a folder with room that you may write."
    )
    assert (path.read_text(), names(tmp_path)) == ("old", ["result.json"])


def test_an_interruption_leaves_the_old_file(tmp_path):
    write_whole(tmp_path / "a.csv", "old")

    def stopped():
        with whole(tmp_path / "a.csv") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert ((tmp_path / "a.csv").read_text(), names(tmp_path)) == ("old", ["a.csv"])


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path):
    (tmp_path / ".part-a.csv").write_text("half")
    write_whole(tmp_path / "a.csv", "whole")
    assert names(tmp_path) == ["a.csv"]


def test_links_modes_and_devices_stay(tmp_path):
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink() and real.read_text() == "new" and real.stat().st_mode & 0o777 == 0o640
    write_whole(Path(os.devnull), "nothing")
    assert not list(Path("/dev").glob(".part-*"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_device_that_is_full(tmp_path):
    for write in (write_whole, append):
        with pytest.raises(ConfigError, match=r"^Cannot write /dev/full: .*; give a file in a folder with room"):
            write(Path("/dev/full"), "x")
    link = tmp_path / "rows.csv"
    link.symlink_to("/dev/full")
    with pytest.raises(ConfigError, match=r"rows\.csv: No space left on device"):
        append(link, "x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["tasks"], ["tasks", "--json"], ["--help"], ["--version"]])
def test_a_command_whose_output_has_no_room_ends_in_one_sentence(command):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cimenv", *command], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == (
        "Cannot write the output: No space left on device; give a file in a folder with room that you may write.\n"
    )


def test_appended_rows(tmp_path):
    append(tmp_path / "rows.csv", 'a,b\n1,"x, y"\n')
    append(tmp_path / "rows.csv", "2,\n")
    assert (tmp_path / "rows.csv").read_bytes() == b'a,b\n1,"x, y"\n2,\n'


def test_only_faults_of_the_disk_are_taken_for_some(tmp_path):
    with pytest.raises(FileNotFoundError), disk_faults(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file", "model.py")
    with pytest.raises(StoreError, match="the store's own"), disk_faults(tmp_path):
        raise StoreError("the store's own")
    with pytest.raises(ConfigError, match=f"Cannot write {tmp_path}: No space left"), disk_faults(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_second_process_is_refused_and_the_lock_goes_with_the_first(tmp_path):
    def claim():
        with only_process(tmp_path / ".lock", "taken."):
            pass

    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match=r"^taken\.$"):
        claim()
    claim()
