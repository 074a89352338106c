"""The cache of unpacked payloads: whole or absent, checked, bounded, and not needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle, open_checked, read_member
from edgepack.errors import ConfigError, IntegrityError, StorageError
from edgepack.runtime import cache
from edgepack.runtime.cache import cache_folder, unpack
from edgepack.runtime.load import load

MODEL = "model/onnxruntime/model.onnx"


@pytest.fixture
def unpacked():
    """Unpacks a bundle; what the test does not release is released after it."""
    with contextlib.ExitStack() as stack:

        def unpack_one(path: Path) -> cache.Unpacked:
            with open_checked(path) as (file, bundle):
                files = unpack(bundle, bundle.manifest.payloads[0], file)
            stack.callback(files.release)
            return files

        yield unpack_one


def entries(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir())


def test_files_are_those_of_the_bundle(bundle_path, unpacked):
    files = unpacked(bundle_path)
    assert (files.folder / MODEL).read_bytes() == read_member(open_bundle(bundle_path), MODEL)
    assert [p.name for p in files.folder.rglob("*") if p.is_file()] == ["model.onnx"]
    assert files.folder.is_relative_to(cache_folder())
    files.release()
    assert (files.folder / MODEL).exists()


def test_the_second_time_nothing_is_copied(bundle_path, monkeypatch, unpacked):
    unpacked(bundle_path).release()
    monkeypatch.setattr(cache, "copy_member", lambda *_: pytest.fail("copied again"))
    monkeypatch.setattr(cache, "sha256_file", lambda *_: pytest.fail("hashed again"))
    unpacked(bundle_path).release()


def test_bundles_with_the_same_files_share_them(bundle_path, tmp_path, unpacked):
    first, second = unpacked(bundle_path), unpacked(small_bundle(tmp_path, name="other", version="2"))
    assert first.folder == second.folder


def test_files_that_were_changed_are_made_again(bundle_path, unpacked):
    path = unpacked(bundle_path).folder / MODEL
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    again = unpacked(bundle_path).folder / MODEL
    assert again.read_bytes() == good
    path.unlink()
    assert (unpacked(bundle_path).folder / MODEL).read_bytes() == good


def test_files_that_were_only_touched_are_hashed_and_kept(bundle_path, monkeypatch, unpacked):
    path = unpacked(bundle_path).folder / MODEL
    os.utime(path, (1, 1))
    monkeypatch.setattr(cache, "copy_member", lambda *_: pytest.fail("copied again"))
    unpacked(bundle_path).release()
    monkeypatch.setattr(cache, "sha256_file", lambda *_: pytest.fail("hashed twice"))
    unpacked(bundle_path).release()


@pytest.mark.parametrize("text", [b"", b"[]", b"not json", b'{"model": 1}', b"\xff"])
def test_damaged_marks(bundle_path, text, unpacked):
    files = unpacked(bundle_path)
    (files.folder.parent / "marks.json").write_bytes(text)
    files.release()
    assert (unpacked(bundle_path).folder / MODEL).exists()


def test_a_bundle_that_changes_while_it_is_unpacked(bundle_path, tmp_path):
    path = Path(shutil.copy(bundle_path, tmp_path))
    with open_checked(path) as (file, bundle):
        data = bytearray(path.read_bytes())
        data[bundle.members[MODEL].offset + 5] ^= 1
        path.write_bytes(data)
        with pytest.raises(IntegrityError):
            unpack(bundle, bundle.manifest.payloads[0], file)
    assert entries(cache_folder()) == []


@pytest.mark.parametrize("where", ["a file", "read-only", "of others", "impossible"])
def test_a_cache_that_cannot_be_used(bundle_path, tmp_path, monkeypatch, where, unpacked):
    root = tmp_path / "cache"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if where == "impossible":
        monkeypatch.setenv("EDGEPACK_CACHE", "/proc/no/such/folder")
    elif where == "a file":
        root.write_text("")
    else:
        root.mkdir()
        root.chmod(0o777 if where == "of others" else 0o500)
        if where == "read-only" and os.geteuid() == 0:
            pytest.skip("root may write everywhere")
    files = unpacked(bundle_path)
    assert files.folder.is_relative_to(tmp_path / "temporary")
    assert (files.folder / MODEL).exists()
    files.release()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_room_anywhere(bundle_path, tmp_path, monkeypatch, unpacked):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(cache, "copy_member", full)
    with pytest.raises(StorageError, match="not enough space") as caught:
        unpacked(bundle_path)
    assert "EDGEPACK_CACHE" in caught.value.hint
    assert list((tmp_path / "temporary").iterdir()) == []
    assert entries(cache_folder()) == []


def test_another_reason_is_not_called_want_of_room(bundle_path, tmp_path, monkeypatch, unpacked):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match="cannot unpack") as caught:
        unpacked(bundle_path)
    assert "enough space" not in caught.value.message


def test_unused_entries_go_when_there_is_too_much(bundle_path, tmp_path, monkeypatch, unpacked):
    paths = [small_bundle(tmp_path / f"{n}", channels=n) for n in (4, 5, 6)]
    used, unused = unpacked(paths[0]), unpacked(paths[1])
    unused.release()
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", "10")
    newest = unpacked(paths[2])
    assert entries(cache_folder()) == sorted(p.folder.parent.name for p in (used, newest))
    assert (used.folder / MODEL).exists()


def test_entries_within_the_limit_stay(tmp_path, unpacked):
    for n in (4, 5, 6):
        unpacked(small_bundle(tmp_path / f"{n}", channels=n)).release()
    assert len(entries(cache_folder())) == 3


def test_a_limit_that_is_no_number(bundle_path, monkeypatch):
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", "4G")
    with pytest.raises(ConfigError, match="EDGEPACK_CACHE_BYTES is '4G'"):
        load(bundle_path)


def test_what_a_killed_process_left_goes_a_day_after(bundle_path, tmp_path, unpacked):
    cache_folder().mkdir()
    key = "0" * 32
    old, new = cache_folder() / f".{key}.abcd_123", cache_folder() / f".{key}.abcd_124"
    foreign = cache_folder() / ".config.d"
    for folder in (old, new, foreign):
        folder.mkdir()
    os.utime(old, (1, 1))
    os.utime(foreign, (1, 1))
    unpacked(bundle_path).release()
    assert not old.exists()
    assert new.exists()
    assert foreign.exists()


def test_what_others_keep_in_the_folder_is_not_removed(bundle_path, tmp_path, monkeypatch, unpacked):
    foreign = cache_folder() / "project"
    foreign.mkdir(parents=True)
    (foreign / "marks.json").write_text("{}")
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", "0")
    unpacked(bundle_path).release()
    unpacked(small_bundle(tmp_path / "other", channels=5)).release()
    assert (foreign / "marks.json").exists()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPACK_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgepack" / "payloads"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "edgepack" / "payloads"


@pytest.mark.slow
def test_many_processes_at_once(bundle_path):
    """They all unpack the same bundle into an empty cache; each must find a whole model."""
    code = "import sys; from pathlib import Path; from edgepack.runtime.verify import verify; "
    code += "assert verify(Path(sys.argv[1])).passed"
    processes = [subprocess.Popen([sys.executable, "-c", code, bundle_path]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(entries(cache_folder())) == 1
    assert not list(cache_folder().glob(".*"))
