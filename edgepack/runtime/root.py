"""What an installation folder (``--root``) holds, and reading it: records, the version in use, and what is wrong there.

Only names that are made here are ever removed, and only below a folder that is marked as ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, EdgepackError, IntegrityError, StorageError
from edgepack.runtime.load import PLANS, RECORD
from edgepack.runtime.trial import AUDIT, AUDIT_OLD, FAILURES, TRIAL, read_trial
from edgepack.specs.run import Verification
from edgepack.specs.target import Host
from edgepack.specs.types import Precision

KIND = "an installation of edgepack"
CURRENT = "current"
HISTORY = "history.json"
VERSIONS = "versions"
LOCK = ".lock"
_ID = re.compile("[0-9a-f]{16}")
_HALF_COPIED = re.compile(r"\.[0-9a-f]{16}\.[a-z0-9_]{8}")
_HALF_LINKED = re.compile(rf"\.{CURRENT}\.[0-9]+(\.old)?")
_NOTES = (HISTORY, TRIAL, FAILURES)
_HALF_WRITTEN = re.compile(rf"\.({'|'.join(map(re.escape, _NOTES))})\.[0-9a-f]{{8}}\.tmp")
_AGAIN = "install the bundle again"
_COPIED = (
    f"{CURRENT} is a folder, not a link: the installation was copied with links followed (cp -L, scp -r, a FAT disk)"
)


@dataclass(frozen=True)
class InstallRecord:
    """One installed version: what it is, how it was verified, which engine was chosen and why.

    ``sha256`` is of the bundle's file as it was installed; ``signers`` are the keys by which it was let in, empty where
    the device's policy asks for none. ``successor_sha256`` is of the same bundle with other signatures, from before it
    takes the file's place until it is proved: two files never change at once.
    """

    format: int
    id: str
    name: str
    version: str
    target: str
    precision: Precision
    file: str
    sha256: str
    installed_at: str
    engine: str
    chosen: str
    passed_over: tuple[str, ...]
    verification: Verification
    host: Host
    signers: tuple[str, ...] = ()
    successor_sha256: str | None = None


@dataclass(frozen=True)
class RootStatus:
    """What a root holds: the version in use (None before the first), and all versions, newest first.

    ``problem`` is what is wrong with the version in use; ``damaged`` are versions that cannot be told of, and why.
    ``on_trial``: the version in use has not passed its health command yet.
    """

    current: InstallRecord | None
    versions: tuple[InstallRecord, ...]
    previous: str | None
    problem: str | None = None
    damaged: tuple[str, ...] = ()
    on_trial: bool = False


@dataclass(frozen=True)
class History:
    """The ids that were activated, oldest first."""

    activated: tuple[str, ...] = ()


def status(root: Path) -> RootStatus:
    """Return what is installed below ``root``; ``problem`` says what is wrong with the version in use."""
    check_root(root)
    records, damaged = _read_records(root)
    name = current_id(root)
    current = next((record for record in records if record.id == name), None)
    trial = read_trial(root)
    on_trial = trial is not None and trial.id == name
    return RootStatus(current, records, previous_id(root), _problem(root, current), damaged, on_trial)


def _problem(root: Path, current: InstallRecord | None) -> str | None:
    """Return what is wrong with the version in use, and None when nothing is, or none is in use."""
    place = root / CURRENT
    if place.is_symlink() and (name := current_id(root)) is None:
        return f"{CURRENT} points to {place.readlink()}, which is not a version of this installation"
    if place.is_dir() and not place.is_symlink():
        return f"{_COPIED}; the next installation or rollback mends it"
    if current is None:
        return f"{CURRENT} points to {name}, which is not installed whole" if place.is_symlink() else None
    try:
        check_version(root / CURRENT, current)
    except EdgepackError as error:
        return error.message
    return None


def check_version(folder: Path, record: InstallRecord) -> None:
    """Check that a version's bundle is whole and the very file that was installed.

    Raises ``IntegrityError`` when it was replaced, and what ``open_bundle`` raises.
    """
    bundle = open_bundle(folder / record.file)
    known = (record.sha256, record.successor_sha256)
    if not bundle.manifest_sha256.startswith(record.id) or bundle.sha256 not in known:
        raise IntegrityError(f"{bundle.path} is not the bundle that was installed and proved here", hint=_AGAIN)


def check_root(root: Path) -> None:
    """Raise ``ConfigError`` when nothing was installed below ``root``."""
    if not (root / VERSIONS).is_dir():
        raise ConfigError(f"nothing is installed below {root}", hint="edgepack install BUNDLE --root DIR")


def current_id(root: Path) -> str | None:
    """Return the id of the version in use; None when there is none, or ``current`` leads elsewhere."""
    place = root / CURRENT
    if place.is_symlink():
        target = place.readlink()
        return target.name if target == Path(VERSIONS) / target.name and _ID.fullmatch(target.name) else None
    try:
        return _read(place).id if place.is_dir() else None
    except (ConfigError, StorageError):
        return None


def previous_id(root: Path) -> str | None:
    """Return the version that was in use last before the present one and can be told of."""
    present = current_id(root)
    for name in reversed(history(root).activated):
        if name != present and _ID.fullmatch(name) and _is_told(root / VERSIONS / name):
            return name
    return None


def history(root: Path) -> History:
    """Return what was activated; nothing where that is lost or damaged: then there is nothing to go back to."""
    try:
        return documents.from_json(History, (root / HISTORY).read_bytes(), HISTORY)
    except (OSError, ConfigError):
        return History()


def read_record(folder: Path) -> InstallRecord:
    """Return the record of a version's folder. Raises ``ConfigError`` or ``StorageError``."""
    record = _read(folder)
    if record.id != folder.name or Path(record.file).name != record.file:
        raise ConfigError(f"{folder / RECORD} is of another version", hint=_AGAIN)
    return record


def _read(folder: Path) -> InstallRecord:
    path = folder / RECORD
    try:
        return documents.from_json(InstallRecord, path.read_bytes(), str(path))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", hint=_AGAIN) from None


def _read_records(root: Path) -> tuple[tuple[InstallRecord, ...], tuple[str, ...]]:
    """Return the records of all versions, newest first, and why others have none."""
    records, damaged = [], []
    for folder in version_folders(root):
        try:
            records.append(read_record(folder))
        except EdgepackError as error:
            unproved = f"{folder.name} was never proved, or its record was lost: the next installation removes it"
            damaged.append(unproved if is_unproved(folder) else error.message)
    records.sort(key=lambda record: (record.installed_at, record.id), reverse=True)
    return tuple(records), tuple(damaged)


def _is_told(folder: Path) -> bool:
    try:
        read_record(folder)
    except EdgepackError:
        return False
    return True


# --- what is ours -----------------------------------------------------------------------------------------------------


def version_folders(root: Path) -> list[Path]:
    """Return the folders of versions, by the names that an installation gives them."""
    return sorted(p for p in (root / VERSIONS).iterdir() if _ID.fullmatch(p.name) and p.is_dir() and not p.is_symlink())


def is_unproved(folder: Path) -> bool:
    """Say whether a version has no record, or an empty one, as after its process was killed or the power was lost."""
    try:
        return (folder / RECORD).stat().st_size == 0
    except FileNotFoundError:
        return True


def left_overs(root: Path) -> list[Path]:
    """Return what killed installations left, by the names that they give."""
    half = [path for path in (root / VERSIONS).iterdir() if _HALF_COPIED.fullmatch(path.name)]
    return [*half, *(path for path in root.iterdir() if _HALF_LINKED.fullmatch(path.name))]


def is_made_by_us(entry: Path) -> bool:
    """Say whether an entry of a root is one that an installation makes."""
    if entry.name == VERSIONS and not entry.is_symlink() and entry.is_dir():
        return all(_ID.fullmatch(path.name) or _HALF_COPIED.fullmatch(path.name) for path in entry.iterdir())
    known = entry.name in (PLANS, CURRENT, LOCK, AUDIT, AUDIT_OLD, *_NOTES)
    return known or bool(_HALF_LINKED.fullmatch(entry.name) or _HALF_WRITTEN.fullmatch(entry.name))


def is_copied_version(folder: Path) -> bool:
    """Say whether ``current``, as a folder, holds nothing but a version's files, so that a link may take its place."""
    return all(
        path.name in (RECORD, PLANS) or path.name.endswith((".edgepack", ".edgepack.tuning.json"))
        for path in folder.iterdir()
    )
