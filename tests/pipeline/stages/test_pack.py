"""Delivering a bundle: what arrives is what was packed, or nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from edgepack.base.files import sha256_file
from edgepack.errors import StorageError
from edgepack.pipeline.stages.pack import Packed, deliver_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    path = tmp_path / "store.edgepack"
    path.write_bytes(b"bundle" * 1000)
    return Packed(path, sha256_file(path), path.stat().st_size)


def test_a_bundle_that_changed_in_the_store_is_not_delivered(packed: Packed, tmp_path: Path) -> None:
    status = packed.path.stat()
    packed.path.write_bytes(b"BUNDLE" * 1000)
    os.utime(packed.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(StorageError, match="changed while it was copied"):
        deliver_bundle(packed, tmp_path / "out" / "model.edgepack")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_delivered_bundle_that_was_changed_is_delivered_again(packed: Packed, tmp_path: Path) -> None:
    final = tmp_path / "model.edgepack"
    deliver_bundle(packed, final)
    status = final.stat()
    final.write_bytes(b"BUNDLE" * 1000)
    os.utime(final, ns=(status.st_atime_ns, status.st_mtime_ns))
    deliver_bundle(packed, final)
    assert final.read_bytes() == b"bundle" * 1000


def test_a_bundle_that_is_there_is_left_alone(packed: Packed, tmp_path: Path) -> None:
    final = tmp_path / "model.edgepack"
    deliver_bundle(packed, final)
    inode = final.stat().st_ino
    deliver_bundle(packed, final)
    assert final.stat().st_ino == inode
