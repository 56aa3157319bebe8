"""Only regular files of a stated size are read."""

import lzma
import os
import resource
import socket
import time

import pytest

from cimenv.core.errors import ConfigError, DataError
from cimenv.core.files import SMALL, checked_file, read_bytes, read_text, unpacked


def told(make, kind=ConfigError) -> str:
    with pytest.raises(kind) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reader", [read_bytes, checked_file])
@pytest.mark.parametrize(("device", "kind"), [("/dev/zero", "a device"), ("/dev", "a folder")])
def test_what_is_no_file_is_refused_before_it_is_read(reader, device, kind):
    assert told(lambda: reader(device, 100)) == f"{device} is {kind}; give a regular file."


def test_pipes_sockets_and_links_to_devices_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    begun = time.monotonic()
    assert "is a pipe" in told(lambda: read_bytes(tmp_path / "pipe", 100))
    assert "is a device" in told(lambda: read_bytes(tmp_path / "link", 100))
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        listening.bind("socket")
        assert "is a socket" in told(lambda: read_bytes("socket", 100))
    assert time.monotonic() - begun < 1


def test_a_large_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    assert told(lambda: read_bytes(tmp_path / "large", 2**20)).endswith(
        "large holds 1.02e+03 GiB and may hold 1 MiB at most; give the file that is meant."
    )
    assert "at most" in told(lambda: checked_file(tmp_path / "large", 10, DataError), DataError)
    (tmp_path / "fits").write_bytes(b"x" * 10)
    assert read_bytes(tmp_path / "fits", 10) == b"x" * 10
    assert checked_file(tmp_path / "fits", 10) == 10
    assert "may hold 9 bytes" in told(lambda: read_bytes(tmp_path / "fits", 9))


def test_a_file_whose_size_the_system_does_not_know_is_bounded_too():
    assert "at most" in told(lambda: read_bytes("/proc/self/maps", 10))


def test_text_that_is_no_utf8_is_told(tmp_path):
    (tmp_path / "text").write_bytes(b"ab\xff")
    assert "no text in UTF-8 (invalid start byte at byte 2)" in told(lambda: read_text(tmp_path / "text", 10))
    (tmp_path / "text").write_text("\u03c3 = 0.5", encoding="utf-8")
    assert read_text(tmp_path / "text", 10) == "\u03c3 = 0.5"
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "missing", 10)


def test_what_xz_packed_comes_back_and_a_bomb_does_not():
    data = os.urandom(10_000)
    packed = lzma.compress(data)
    assert unpacked("t.xz", packed) == data
    assert "something follows its data" in told(lambda: unpacked("t.xz", packed + packed))
    assert "ends within its data" in told(lambda: unpacked("t.xz", packed[:-20]))
    assert "t.xz is damaged" in told(lambda: unpacked("t.xz", b"not xz"))
    assert "more than 9.76 KiB" in told(lambda: unpacked("t.xz", packed, at_most=9_999))
    bomb = lzma.compress(bytes(2 * SMALL), preset=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert told(lambda: unpacked("bomb.xz", bomb)).startswith("bomb.xz unpacks to more than")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * SMALL / 1024
