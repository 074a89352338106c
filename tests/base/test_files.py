"""Digests, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.base import files
from edgepack.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "f").write_bytes(data[:size])
    assert files.sha256_file(tmp_path / "f") == hashlib.sha256(data[:size]).hexdigest()
    assert files.crc32_file(tmp_path / "f") == zlib.crc32(data[:size])


@given(json_values)
def test_the_digest_of_a_value_does_not_depend_on_the_order_of_keys(value: object) -> None:
    def reversed_keys(v: object) -> object:
        if isinstance(v, dict):
            return {k: reversed_keys(v[k]) for k in reversed(v)}
        return [reversed_keys(i) for i in v] if isinstance(v, list) else v

    assert files.sha256_json(value) == files.sha256_json(reversed_keys(value))


@pytest.mark.parametrize(("a", "b"), [({"a": 1}, {"a": "1"}), ([1, 2], [2, 1]), (1, 1.5), (None, "null"), ([], {})])
def test_different_values_have_different_digests(a: object, b: object) -> None:
    assert files.sha256_json(a) != files.sha256_json(b)


def test_a_digest_is_of_finite_numbers_only() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.sha256_json(float("nan"))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    with files.atomic_write(path) as file:
        file.write(b"all")
        assert not path.exists()
    assert path.read_bytes() == b"all"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


def test_the_users_umask_is_respected(tmp_path: Path) -> None:
    code = (
        "import os; os.umask(0o077); from edgepack.base.files import write_text as w; from pathlib import Path as P; "
    )
    subprocess.run([sys.executable, "-c", f"{code}w(P({str(tmp_path / 'f')!r}), 'x')"], check=True)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def left_behind(folder: Path, name: str, age_s: float) -> Path:
    """A file or folder as a killed process leaves it."""
    path = folder / name
    path.mkdir() if name.startswith("edgepack") else path.write_text("half")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_killed_writes_left_goes_with_the_next_write_of_the_same_file(tmp_path: Path) -> None:
    old = [left_behind(tmp_path, f".net.edgepack.{end}.tmp", 100) for end in ("0123abcd", "ffffffff")]
    kept = [
        left_behind(tmp_path, ".net.edgepack.0000abcd.tmp", 10),  # perhaps not locked yet
        left_behind(tmp_path, ".other.edgepack.0123abcd.tmp", 100),
        left_behind(tmp_path, ".net.edgepack.notes.tmp", 100),
        left_behind(tmp_path, "net.edgepack.0123abcd.tmp", 100),
    ]
    files.write_text(tmp_path / "net.edgepack", "new")
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_a_build_removes_what_a_killed_one_left_of_its_bundles(tmp_path: Path) -> None:
    old = [left_behind(tmp_path, f".net-board-{p}.edgepack.0123abcd.tmp", 100) for p in ("int8", "fp32")]
    kept = [
        left_behind(tmp_path, name, 100) for name in (".other-b.edgepack.0123abcd.tmp", ".net-notes.tmp", "net-a.tmp")
    ]
    files.sweep(tmp_path, "net")
    files.sweep(tmp_path / "absent", "net")
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_what_another_process_writes_just_now_stays(tmp_path: Path) -> None:
    with files.atomic_write(tmp_path / "f") as file:
        file.write(b"first")
        file.flush()
        os.utime(next(tmp_path.iterdir()), (1, 1))
        files.write_text(tmp_path / "f", "second")
    assert (tmp_path / "f").read_text() == "first"


def test_a_forked_process_leaves_a_scratch_folder_alone(tmp_path: Path) -> None:
    """It closes what it got with the fork, or ends by an error that unwinds everything."""
    with files.scratch_folder(parent=tmp_path) as folder:
        (folder / "weights").write_text("x")
        stack = contextlib.ExitStack()
        inner = stack.enter_context(files.scratch_folder(parent=tmp_path))
        child = os.fork()
        if not child:
            try:
                stack.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert inner.is_dir()
        assert (folder / "weights").is_file()
        stack.close()
        assert not inner.exists()
    assert not folder.exists()


def test_no_folder_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the disks of all are full: that was an internal error."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    with pytest.raises(StorageError, match="temporary files can be written") as caught, files.scratch_folder():
        pass
    assert "TMPDIR" in caught.value.hint


def test_scratch_folders_of_killed_processes_go_with_the_next_one(tmp_path: Path) -> None:
    old, young = (left_behind(tmp_path, f"edgepack-{i}123456789abcdef", age) for i, age in enumerate((100, 10)))
    other = left_behind(tmp_path, "edgepack-examples", 100)  # somebody's own
    with files.scratch_folder(parent=tmp_path) as first:
        os.utime(first, (1, 1))
        assert first.stat().st_mode & 0o777 == 0o700
        with files.scratch_folder(parent=tmp_path) as second:
            assert first.exists()
            assert second != first
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([young.name, other.name])
    assert not old.exists()


@pytest.mark.parametrize("prefix", ["edgepack-", "edgepack-tuning-"])
def test_any_command_removes_what_killed_ones_of_another_kind_left(tmp_path: Path, prefix: str) -> None:
    """An installation or a search that was killed may be the last of its kind on a machine for months."""
    old = [left_behind(tmp_path, f"edgepack-{kind}0123456789abcdef", 100) for kind in ("install-", "tuning-", "")]
    kept = [
        left_behind(tmp_path, name, 100)
        for name in ("edgepack-my-notes", ".pack-0123456789abcdef", "a0123456789abcdef")
    ]
    with files.scratch_folder(prefix, tmp_path):
        assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)


def test_an_old_file_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), files.atomic_write(path) as file:  # noqa: PT012
        file.write(b"new")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_body_may_seek_and_read_back(tmp_path: Path) -> None:
    with files.atomic_write(tmp_path / "f") as file:
        file.write(b"0000data")
        file.seek(0)
        file.write(b"head")
        file.seek(4)
        assert file.read() == b"data"
    assert (tmp_path / "f").read_bytes() == b"headdata"


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    files.write_text(tmp_path / "f", "Zürich 苹果 🍎\n")
    assert (tmp_path / "f").read_bytes() == "Zürich 苹果 🍎\n".encode()


def test_a_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("keep")
    (tmp_path / "link").symlink_to("real")
    files.write_text(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "keep"
    assert (tmp_path / "link").read_text() == "new"


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("file/below/f", id="below-a-file"),
        pytest.param("folder", id="a-folder"),
        pytest.param("x" * 300, id="long-name"),
        pytest.param("loop/f", id="symlink-loop"),
    ],
)
def test_places_that_cannot_be_written_are_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match="cannot write") as caught:
        files.write_text(tmp_path / place, "x")
    assert caught.value.exit_code == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        files.write_text(tmp_path / "f", "x")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO])
def test_refusals_of_the_system_are_storage_errors(tmp_path: Path, code: int) -> None:
    with pytest.raises(StorageError, match="cannot write"), files.storage_errors(tmp_path / "f"):
        raise OSError(code, os.strerror(code), str(tmp_path / "f"))


def test_an_error_about_another_place_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.storage_errors(tmp_path / "f"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/secret")


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The full disk is simulated by a limit on the size of files: the same write fails, with EFBIG for ENOSPC."""
    code = f"""
import resource, pathlib
from edgepack.base import files
from edgepack.errors import StorageError
path = pathlib.Path({str(tmp_path / "f")!r})
files.write_text(path, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write_text(path, "n" * 5000)
except StorageError as error:
    print(error.message, "|", error.hint)
"""
    answer = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("no space left while writing")
    assert "free some disk space" in answer.stdout
    assert (tmp_path / "f").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_really_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    files.write_text(small_disk / "f", "old")
    with pytest.raises(StorageError, match="no space left"):
        files.write_text(small_disk / "f", "n" * 400_000)
    assert (small_disk / "f").read_text() == "old"
    assert [p.name for p in small_disk.iterdir()] == ["f"]
    files.write_text(small_disk / "g", "there is room again")


# --- a killed process -------------------------------------------------------------------------------------------------


def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    code = f"""
import pathlib
from edgepack.base import files
path = pathlib.Path({str(tmp_path / "f")!r})
for n in range(100000):
    files.write_text(path, str(n % 10) * 50000)
    print(n, flush=True)
"""
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        text = (tmp_path / "f").read_text()
        assert len(text) == 50000
        assert len(set(text)) == 1


def test_a_file_of_its_own_is_never_somebody_elses(tmp_path: Path) -> None:
    precious, place = tmp_path / "precious", tmp_path / "place"
    precious.write_bytes(b"mine")
    for link in (place.symlink_to, place.hardlink_to):
        link(precious)
        with pytest.raises(OSError, match=r"(?i)symbolic links|of its own"):
            files.open_own(place, append=True)
        with files.open_own(place) as file:
            file.write(b"new")
        assert (precious.read_bytes(), place.read_bytes()) == (b"mine", b"new")
        with files.open_own(place, append=True) as file:
            file.write(b"er")
        assert place.read_bytes() == b"newer"
        place.unlink()
    os.mkfifo(place)
    with pytest.raises(OSError, match="place"):
        files.open_own(place, append=True)
