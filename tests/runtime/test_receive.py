"""Receiving a file in pieces: whole by its digest or not at all, one sender at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import IO

import pytest

from edgepack.errors import ConfigError, IntegrityError, StorageError
from edgepack.runtime import receive as receiving
from edgepack.runtime.receive import Received, receive

DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


def sender(pieces: list[bytes], hold: threading.Event | None = None) -> IO[bytes]:
    """Return the end of a pipe from which the pieces come; ``hold``: it stays open until then."""
    out, into = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(into, "wb") as file:
            for piece in pieces:
                file.write(piece)
                file.flush()
            if hold is not None:
                hold.wait(30)

    threading.Thread(target=write).start()
    return os.fdopen(out, "rb")


def got(folder: Path, data: bytes, digest: str = DIGEST, size: int = len(DATA)) -> tuple[int, Received]:
    said = io.StringIO()
    with sender([data]) as pipe:
        found = receive(digest, size, pipe, said, folder)
    return json.loads(said.getvalue())["offset"], found


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_a_file_comes_whole_and_is_known_the_next_time(tmp_path: Path) -> None:
    offset, found = got(tmp_path, DATA)
    assert (offset, found.received_bytes, Path(found.path).read_bytes()) == (0, len(DATA), DATA)
    assert names(tmp_path) == [".file"]
    assert got(tmp_path, b"") == (len(DATA), Received(found.path, DIGEST, 0))
    assert names(tmp_path) == [".file"]


def test_what_was_cut_off_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the sender went away after 1000000 of 3000000"):
        got(tmp_path, DATA[:1_000_000])
    assert names(tmp_path) == [".part"]
    offset, found = got(tmp_path, DATA[1_000_000:])
    assert (offset, found.received_bytes) == (1_000_000, 2_000_000)
    assert Path(found.path).read_bytes() == DATA


def test_another_file_than_was_announced_is_refused_and_goes(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is not the file that was announced"):
        got(tmp_path, DATA[::-1])
    assert names(tmp_path) == []


def test_more_than_was_announced_is_left_out(tmp_path: Path) -> None:
    assert Path(got(tmp_path, DATA + b"more")[1].path).read_bytes() == DATA


def test_a_damaged_file_is_received_again(tmp_path: Path) -> None:
    path = Path(got(tmp_path, DATA)[1].path)
    path.write_bytes(b"damaged")
    assert got(tmp_path, DATA)[0] == 0
    assert path.read_bytes() == DATA


def test_a_half_file_that_is_too_long_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.part").write_bytes(DATA + b"more")
    assert got(tmp_path, DATA)[0] == 0


def test_a_disk_without_room_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    said = io.StringIO()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * len(DATA)))
    with sender([]) as pipe, pytest.raises(StorageError, match="has 6 MB free, and 10 MB are needed"):
        receive(DIGEST, len(DATA), pipe, said, tmp_path)
    assert said.getvalue() == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * len(DATA) + (4 << 20)))
    got(tmp_path, DATA)


def test_a_sender_who_is_silent_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "_SILENT_S", 0.3)
    hold = threading.Event()
    with sender([DATA[:5]], hold) as pipe, pytest.raises(ConfigError, match="went away after 5 of"):
        receive(DIGEST, len(DATA), pipe, io.StringIO(), tmp_path)
    hold.set()


def test_another_sender_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / f"{DIGEST}.part"
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(receiving, "_WAIT_S", 0.3)
        with pytest.raises(StorageError, match="another process is sending"):
            got(tmp_path, DATA)
        monkeypatch.setattr(receiving, "_WAIT_S", 30.0)

        def finish() -> None:
            time.sleep(0.5)
            (tmp_path / f"{DIGEST}.file").write_bytes(DATA)
            part.unlink()
            fcntl.flock(other, fcntl.LOCK_UN)

        thread = threading.Thread(target=finish)
        thread.start()
        assert got(tmp_path, b"")[0] == len(DATA)
        thread.join()


@pytest.mark.parametrize("digest", ["", "x" * 64, "../" + "a" * 61, "A" * 64])
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ConfigError, match="a digest and a size"):
        got(tmp_path / "none", DATA, digest=digest)
    assert not (tmp_path / "none").exists()


def test_what_nobody_asked_for_in_a_week_goes_and_nothing_else(tmp_path: Path) -> None:
    old = [f"{'a' * 64}.part", f"{'b' * 64}.file", "notes.part", f"{'c' * 64}.txt"]
    for name in old:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    got(tmp_path, DATA)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*old[2:], f"{DIGEST}.file"])


def test_a_folder_that_others_write_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StorageError, match="writable by other users"):
        got(tmp_path, DATA)
