"""A folder that several use at once, that cannot be written, and that grows: no tag is lost, no blob brought twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from registry_server import Faulty, send
from small_bundles import small_bundle
from updater_cases import may_mount

from edgepack.errors import ConfigError, IntegrityError, StorageError
from edgepack.registry import layout as layouts
from edgepack.registry.layout import Layout
from edgepack.registry.reference import Folder, Reference
from edgepack.registry.transfer import cache_layout, pull, push

DAY_S = 86_400


def parts(layout: Layout) -> list[str]:
    return [path.name for path in (layout.folder / "blobs").iterdir() if path.name != "sha256"]


def test_of_many_pushes_at_once_no_tag_is_lost(tmp_path: Path) -> None:
    path, layout = small_bundle(tmp_path), Layout(tmp_path / "usb")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: push(path, Folder(layout.folder, f"t{i}")), range(16)))
    assert len({layout.find(f"t{i}") for i in range(16)}) == 1
    assert parts(layout) == []


def test_pulls_at_once_bring_each_blob_once(registry: Faulty, tmp_path: Path) -> None:
    """Two that append to one half file mix their pieces."""
    data = max(registry.blobs.values(), key=len)
    (large,) = (name for name, blob in registry.blobs.items() if blob is data)

    def answer(request: Any) -> bool:
        if large not in request.path:
            return False
        begin = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        request.send_response(206 if begin else 200)
        request.send_header("Content-Length", str(len(data) - begin))
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        for start in range(begin, len(data), len(data) // 8):
            request.wfile.write(data[start : min(start + len(data) // 8, len(data))])
            request.wfile.flush()
            time.sleep(0.05)
        return True

    registry.answer = answer
    reference = Reference(registry.host, "net", "1")
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda i: pull(reference, tmp_path / f"{i}.edgepack").moved_bytes, range(4)))
    right = (tmp_path / "small.edgepack").read_bytes()
    assert all((tmp_path / f"{i}.edgepack").read_bytes() == right for i in range(4))
    assert [path for _, path, _ in registry.seen].count(f"/v2/net/blobs/{large}") == 1
    assert sum(moved) == sum(len(blob) for blob in registry.blobs.values()) - len(registry.manifest)
    assert parts(cache_layout()) == []


def test_a_process_that_hangs_is_waited_for_as_long_as_something_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_SILENT_S", 0.6)
    layout, name = Layout(tmp_path / "usb"), "sha256:" + "a" * 64
    began, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with layout.alone(name):
            began.set()
            for size in range(6):  # longer than the others wait for one that is silent
                layout.half(name).write_bytes(bytes(size))
                time.sleep(0.2)
            ended.wait(20)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        began.wait(20)
        start = time.monotonic()
        with pytest.raises(StorageError, match="another process is writing"), layout.alone(name):
            pass
        assert time.monotonic() - start > 1.4
        ended.set()
        holder.result(20)
    with layout.alone(name):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "usb")
    layout.begin()
    (layout.folder / "blobs" / f".{'a' * 64}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError), layout.alone("sha256:" + "a" * 64):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not may_mount(), reason="mounts need root")
@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-30] + bytes(30)], ids=["short", "other"]
)
def test_a_stick_that_cannot_be_written_gives_what_is_whole_and_one_error_else(tmp_path: Path, damage: Any) -> None:
    push(small_bundle(tmp_path, 300), Folder(tmp_path / "usb"))
    (tmp_path / "mount").mkdir()
    within = 'mount --bind "$1" mount; mount -o remount,ro,bind mount; shift; exec "$@"'
    words = ["unshare", "--mount", "sh", "-ec", within, "sh", tmp_path / "usb", sys.executable, "-m", "edgepack"]
    command = [*words, "pull", "oci:mount", "--out", "got.edgepack"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got.edgepack").read_bytes() == (tmp_path / "small.edgepack").read_bytes()
    (tmp_path / "got.edgepack").unlink()
    blob = max((tmp_path / "usb" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(damage(blob.read_bytes()))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == IntegrityError.exit_code
    assert "or it is damaged" in done.stderr
    assert not (tmp_path / "got.edgepack").exists()


def test_the_cache_is_kept_within_its_limit(registry: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used longest ago goes first; what was used in the last hour never, as another pull may need it now."""
    layout, now = cache_layout(), time.time()
    layout.begin()
    old = [layout.blob(layout.add_bytes(bytes([i]) * 1000)) for i in range(4)]
    for i, path in enumerate(old):
        os.utime(path, (now - (4 - i) * DAY_S, now - (4 - i) * DAY_S))
    reference = Reference(registry.host, "net", "1")
    for name, blob in registry.blobs.items():  # what is there already is used anew, and does not come again
        if len(blob) > 10_000:
            layout.add_bytes(blob)
            os.utime(layout.blob(name), (now - 9 * DAY_S, now - 9 * DAY_S))
    size = sum(len(blob) for blob in registry.blobs.values())
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", str(size + 2500))
    pull(reference, tmp_path / "got.edgepack")
    assert [path.exists() for path in old] == [False, False, True, True]
    assert all(layout.blob(name).exists() for name in registry.blobs)
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", "0")
    pull(reference, tmp_path / "got.edgepack")
    assert not any(path.exists() for path in old)
    assert all(layout.blob(name).exists() for name in registry.blobs)
    monkeypatch.setenv("EDGEPACK_CACHE_BYTES", "much")
    with pytest.raises(ConfigError, match="EDGEPACK_CACHE_BYTES"):
        pull(reference, tmp_path / "got.edgepack")


def test_what_was_cut_off_goes_after_a_week(registry: Faulty, tmp_path: Path) -> None:
    layout = cache_layout()
    layout.begin()
    names = [f".{'a' * 64}.part", f".{'b' * 16}.part", f".{'c' * 64}.lock", ".mine.part"]
    for i, name in enumerate((*names, f".{'d' * 64}.part")):
        (layout.folder / "blobs" / name).write_bytes(b"x")
        if i < len(names):
            os.utime(layout.folder / "blobs" / name, (time.time() - 8 * DAY_S,) * 2)
    pull(Reference(registry.host, "net", "1"), tmp_path / "got.edgepack")
    assert sorted(parts(layout)) == [f".{'d' * 64}.part", ".mine.part"]
    registry.answer = lambda request: send(request, 404) or True
