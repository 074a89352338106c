"""What is asked of a shared file system: whole writes, limits, and what is tried again. On S3: test_shared.py."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgepack.execution.shared.address import parse_address
from edgepack.execution.shared.remote import AbsentError, DamagedError, Remote, RemoteError


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(parse_address(f"file://{tmp_path}/shared"), pause_s=0.0)


def test_what_is_written_is_read_listed_and_removed(remote: Remote) -> None:
    remote.write("records/a/x.json", b"12345")
    assert remote.read("records/a/x.json", 5) == b"12345"
    assert remote.size("records/a/x.json") == 5
    assert [(named.name, named.size_bytes) for named in remote.list("records")] == [("records/a/x.json", 5)]
    assert remote.list("records")[0].written_s > 1e9
    remote.remove("records/a/x.json")
    remote.remove("records/a/x.json")
    assert remote.size("records/a/x.json") is None
    assert remote.list("nothing") == ()
    with pytest.raises(AbsentError):
        remote.read("records/a/x.json", 5)


def test_more_than_is_expected_is_refused(remote: Remote) -> None:
    remote.write("x", b"123456")
    with pytest.raises(DamagedError, match="more than 5 bytes"):
        remote.read("x", 5)


@pytest.mark.parametrize("content", [b"", b"abc", b"abcdefgh"])
def test_a_download_has_the_size_and_digest_or_is_refused(remote: Remote, tmp_path: Path, content: bytes) -> None:
    remote.write("x", content)
    remote.download("x", tmp_path / "to", len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / "to").read_bytes() == content
    with pytest.raises(DamagedError):
        remote.download("x", tmp_path / "to", len(content) + 1, hashlib.sha256(content + b"x").hexdigest())
    # a longer file is read as far as was said
    remote.write("x", content + b"more")
    remote.download("x", tmp_path / "to", len(content), hashlib.sha256(content).hexdigest())


def test_a_write_that_fails_leaves_what_was_there(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.write("x", b"old")

    def fail(path: str, data: bytes) -> None:
        Path(path).write_bytes(data[:1])
        raise OSError(5, "broken")

    monkeypatch.setattr(remote._files, "pipe_file", fail)
    with pytest.raises(RemoteError, match="broken"):
        remote.write("x", b"new")
    assert remote.read("x", 10) == b"old"
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["x"]


def test_a_call_is_tried_three_times(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def flaky(path: str, start: int, end: int) -> bytes:
        calls.append(path)
        if len(calls) < 3:
            raise ConnectionError("reset")
        return b"ok"

    monkeypatch.setattr(remote._files, "cat_file", flaky)
    assert remote.read("x", 5) == b"ok"
    calls.clear()
    monkeypatch.setattr(remote._files, "cat_file", lambda *_, **__: calls.append(1) or (_ for _ in ()).throw(OSError()))
    with pytest.raises(RemoteError, match="OSError"):
        remote.read("x", 5)
    assert len(calls) == 3


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(remote: Remote, tmp_path: Path) -> None:
    remote.write("records/a/x.json", b"1")
    os.mkfifo(tmp_path / "shared" / "pipe")
    with pytest.raises(DamagedError, match="not a regular file"):
        remote.read("pipe", 5)
    with pytest.raises(DamagedError, match="not a regular file"):
        remote.download("pipe", tmp_path / "to", 1, hashlib.sha256(b"1").hexdigest())
