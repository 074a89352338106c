"""Copies a checked bundle into an installation: a folder appears whole or not at all, and room is made for it."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import IO

from edgepack.base import documents
from edgepack.base.files import atomic_write, storage_errors, sync_folder, write_text
from edgepack.bundle.archive import Bundle, open_bundle
from edgepack.errors import EdgepackError, IntegrityError, StorageError
from edgepack.runtime.load import ID_DIGITS, PLANS, RECORD
from edgepack.runtime.root import VERSIONS, current_id, history, previous_id, read_record, version_folders
from edgepack.specs.types import Progress

_MARGIN_BYTES = 1 << 20  # for records; a full disk stops other programs too
_CHUNK_BYTES = 1 << 20


def make_room(root: Path, size: int) -> None:
    """Remove old versions until a bundle fits on the disk. Raises ``StorageError`` when it does not even so."""
    kept = {current_id(root), previous_id(root)}
    old = [folder for folder in _oldest_first(root) if folder.name not in kept]
    while shutil.disk_usage(root).free < size + _MARGIN_BYTES:
        if not old:
            free = shutil.disk_usage(root).free
            raise StorageError(
                f"{root} has {free / 1e6:.1f} MB free, and the bundle has {size / 1e6:.1f} MB: no space left for it",
                hint="free some disk space: no old version is left to remove",
            )
        shutil.rmtree(old.pop(0), ignore_errors=True)


def _oldest_first(root: Path) -> list[Path]:
    """Return the folders of versions, those that were never in use first."""
    order = {name: i for i, name in enumerate(history(root).activated)}
    return sorted(version_folders(root), key=lambda folder: order.get(folder.name, -1))


def copy_in(bundle: Bundle, file: IO[bytes], digest: str, root: Path, progress: Progress) -> Path:
    """Return the folder of the bundle's version, with the whole bundle in it; ``digest`` is of that file."""
    folder = root / VERSIONS / bundle.manifest_sha256[:ID_DIGITS]
    name = f"{bundle.manifest.name}.edgepack"
    if (folder / name).is_file():
        if _is_same(folder / name, digest):
            return folder
        if current_id(root) == folder.name:  # in use: only the file in it is replaced
            _announce(folder, folder / name, digest)
            _copy_file(bundle, file, digest, folder / name, progress)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(folder):
        scratch = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        scratch.mkdir()
        try:
            _copy_file(bundle, file, digest, scratch / name, progress)
            (scratch / PLANS).symlink_to(Path("..") / ".." / PLANS)
            sync_folder(scratch)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        sync_folder(folder.parent)
    return folder


def _announce(folder: Path, installed: Path, digest: str) -> None:
    """Note in the record of the version in use that its bundle, signed otherwise, is about to take the file's place.

    Whoever is cut off then leaves a version that is whole, with the one file or the other. A record or a file that is
    damaged stays so until the new file is proved.
    """
    try:
        record, present = read_record(folder), open_bundle(installed).sha256
    except EdgepackError:
        return
    if present in (record.sha256, record.successor_sha256):
        write_text(folder / RECORD, documents.to_json(replace(record, sha256=present, successor_sha256=digest)))


def _is_same(installed: Path, digest: str) -> bool:
    """Say whether an installed bundle is whole and the same file; a signature counts, too."""
    try:
        return open_bundle(installed).sha256 == digest
    except EdgepackError:
        return False  # damaged: copied again


def sha256_open(file: IO[bytes]) -> str:
    """Return the sha256 of a whole open file."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _copy_file(bundle: Bundle, file: IO[bytes], digest: str, out: Path, progress: Progress) -> None:
    progress("copy", 0, bundle.size_bytes)
    file.seek(0)
    with atomic_write(out) as copy:
        shutil.copyfileobj(file, copy, _CHUNK_BYTES)
    progress("copy", bundle.size_bytes, bundle.size_bytes)
    copied = open_bundle(out)
    if copied.manifest_sha256 != bundle.manifest_sha256 or copied.sha256 != digest:
        raise IntegrityError(f"{bundle.path} was changed while it was copied", hint="install it again")
