"""Installs bundles on a device: checked, copied whole, its engine built, verified with golden vectors, then activated.

``ROOT`` holds ``versions/ID`` with the bundle, its record ``install.json`` and a link to ``ROOT/plans``, where engines
that this device built are kept for all versions. ``ROOT/current`` is a link to the version in use: it changes by one
rename, after the golden vectors passed. A process killed at any moment leaves the version in use as it was; what it
left half-copied goes with the next installation.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import atomic_write, storage_errors, sync_folder, write_text
from edgepack.bundle.archive import Bundle, open_bundle
from edgepack.device.host import host_facts
from edgepack.errors import ChildError, ConfigError, EdgepackError, IntegrityError, StorageError, VerificationError
from edgepack.execution import child
from edgepack.runtime.load import PLANS, load
from edgepack.runtime.verify import other_ways, verify_loaded, verify_ways
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.target import Host
from edgepack.specs.types import Precision, Progress, no_progress

CURRENT = "current"
RECORD = "install.json"
HISTORY = "history.json"
_VERSIONS = "versions"
_LIMIT_S = 7200.0  # building an engine takes tens of minutes on a small board
_KEPT_VERSIONS = 3
_FORMAT = 1


@dataclass(frozen=True)
class InstallRecord:
    """One installed version: what it is, how it was verified, which engine was chosen and why."""

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


@dataclass(frozen=True)
class RootStatus:
    """What a root holds: the version in use (None before the first), and all versions, newest first."""

    current: InstallRecord | None
    versions: tuple[InstallRecord, ...]
    previous: str | None
    problem: str | None = None


@dataclass(frozen=True)
class _History:
    """The ids that were activated, oldest first."""

    activated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proof:
    """What the child process that loads and verifies a bundle returns."""

    engine: str
    chosen: str
    passed_over: tuple[str, ...]
    verification: Verification


def install(
    bundle: Path, root: Path, options: RunOptions = RunOptions(), progress: Progress = no_progress  # noqa: B008
) -> InstallRecord:  # fmt: skip
    """Install ``bundle`` below ``root`` and put it in use when its golden vectors pass here.

    Loading and verifying run in a child process. Raises ``VerificationError`` when an output is too far off or the
    process dies, ``StorageError`` on a full disk, and what ``load`` raises; the version in use stays then.
    """
    checked = open_bundle(bundle)
    with _locked(root):
        _remove_left_overs(root)
        folder = _copy_in(checked, root, progress)
        try:
            record = _prove(checked, folder, options, progress)
            if not record.verification.passed:
                raise VerificationError(_too_far(record))
            write_text(folder / RECORD, documents.to_json(record))
        except BaseException:
            if _current_id(root) != folder.name and not (folder / RECORD).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        _activate(root, folder.name)
        _prune(root)
    return record


def rollback(root: Path) -> InstallRecord:
    """Put the version that was in use before the present one in use again, and return its record.

    Its bundle is checked whole first. Raises ``ConfigError`` when there is none.
    """
    _check_root(root)
    with _locked(root):
        wanted = _previous_id(root)
        if wanted is None:
            raise ConfigError(f"{root} has no earlier version to go back to", hint="see 'edgepack status'")
        record = _read_record(root / _VERSIONS / wanted)
        open_bundle(root / _VERSIONS / wanted / record.file)
        _activate(root, wanted)
    return record


def status(root: Path) -> RootStatus:
    """Return what is installed below ``root``; ``problem`` says what is wrong with the version in use."""
    _check_root(root)
    folders = [folder for folder in (root / _VERSIONS).glob("*") if not folder.name.startswith(".")]
    records = [_read_record(folder) for folder in folders if (folder / RECORD).is_file()]
    records.sort(key=lambda record: (record.installed_at, record.id), reverse=True)
    name = _current_id(root)
    current = next((record for record in records if record.id == name), None)
    problem = None
    if name is not None and current is None:
        problem = f"{CURRENT} points to {name}, which is not installed"
    elif current is not None:
        try:
            open_bundle(root / CURRENT / current.file)
        except EdgepackError as error:
            problem = error.message
    return RootStatus(current, tuple(records), _previous_id(root), problem)


def describe_record(record: InstallRecord) -> tuple[str, ...]:
    """Return lines for people: the active version, its engine and why, and how it was verified."""
    proof = record.verification
    lines = [
        f"{record.name} {record.version} for {record.target}, {record.precision}: active since {record.installed_at}",
        f"  engine: {record.engine}" + (f" ({record.chosen})" if record.chosen else ""),
        *(f"  not used: {reason}" for reason in record.passed_over),
        f"  verified with {proof.samples} golden vectors on "
        + ", ".join(f"{name} {version}" for name, version in proof.versions.items()),
    ]
    return tuple(lines)


def describe_status(found: RootStatus) -> tuple[str, ...]:
    """Return lines for people: the version in use, what is wrong with it, and the others."""
    lines: list[str] = list(describe_record(found.current)) if found.current else ["no active version"]
    if found.problem:
        lines.append(f"  problem: {found.problem}")
    for record in found.versions:
        if found.current is None or record.id != found.current.id:
            mark = " (rollback goes here)" if record.id == found.previous else ""
            lines.append(f"kept: {record.name} {record.version}, {record.precision}, {record.installed_at}{mark}")
    return tuple(lines)


# --- steps ------------------------------------------------------------------------------------------------------------


def _copy_in(bundle: Bundle, root: Path, progress: Progress) -> Path:
    """Return the folder of the bundle's version, with the whole bundle in it."""
    folder = root / _VERSIONS / bundle.manifest_sha256[:16]
    name = f"{bundle.manifest.name}.edgepack"
    if (folder / name).is_file():
        try:
            if open_bundle(folder / name).manifest_sha256 == bundle.manifest_sha256:
                return folder
        except EdgepackError:
            pass  # damaged: copied again
        if _current_id(root) == folder.name:  # in use: only the file in it is replaced
            _copy_file(bundle, folder / name, progress)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(folder):
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _copy_file(bundle, scratch / name, progress)
            (scratch / PLANS).symlink_to(Path("..") / ".." / PLANS)
            scratch.chmod(0o755)
            sync_folder(scratch)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        sync_folder(folder.parent)
    return folder


def _copy_file(bundle: Bundle, out: Path, progress: Progress) -> None:
    progress("copy", 0, bundle.size_bytes)
    with atomic_write(out) as file, bundle.path.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
    progress("copy", bundle.size_bytes, bundle.size_bytes)
    if open_bundle(out).manifest_sha256 != bundle.manifest_sha256:
        raise IntegrityError(f"{bundle.path} was changed while it was copied", hint="install it again")


def _prove(bundle: Bundle, folder: Path, options: RunOptions, progress: Progress) -> InstallRecord:
    manifest = bundle.manifest
    name = f"{manifest.name}.edgepack"
    with tempfile.TemporaryDirectory(prefix="edgepack-install-") as scratch:
        log = Path(scratch) / "install.log"
        try:
            proof = child.call(prove, (folder / name).absolute(), options, limit_s=_LIMIT_S, log=log, progress=progress)
        except ChildError as error:
            words = error.log.strip().splitlines()
            raise VerificationError(
                f"the bundle could not be verified here: {error.message}" + (f"; {words[-1][:300]}" if words else ""),
                hint="the active version is unchanged; see 'dmesg' for the kernel's messages",
            ) from error
    return InstallRecord(
        format=_FORMAT,
        id=folder.name,
        name=manifest.name,
        version=manifest.version,
        target=manifest.target,
        precision=manifest.precision,
        file=name,
        sha256=bundle.sha256,
        installed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        engine=proof.engine,
        chosen=proof.chosen,
        passed_over=proof.passed_over,
        verification=proof.verification,
        host=host_facts(),
    )


def prove(bundle: Path, options: RunOptions, progress: Progress = no_progress) -> Proof:
    """Load an installed bundle, building its engine where need be, and run its golden vectors (in a child process)."""
    with load(bundle, options, progress) as model:
        result = verify_loaded(model, progress)
        engine = model.backend if model.device == "CPU" else f"{model.backend} {model.device}"
        proof = Proof(engine, model.chosen, model.skipped, result)
        ways = other_ways(model, options)
    return dataclasses.replace(proof, verification=verify_ways(result, bundle, ways, progress))


def _too_far(record: InstallRecord) -> str:
    wrong = [output for output in record.verification.outputs if not output.passed]
    words = ", ".join(
        f"{output.name}: " + (output.note or f"SQNR {output.sqnr_db} dB, at least {output.tolerance_sqnr_db}")
        for output in wrong
    )
    return f"{record.name} computes wrong values here with {record.engine} ({words}): it was not put in use"


def _activate(root: Path, name: str) -> None:
    """Let ``current`` name the version by one rename, then note it; the note may be lost, the link is what counts."""
    before = _current_id(root)
    with storage_errors(root / CURRENT):
        scratch = root / f".{CURRENT}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(Path(_VERSIONS) / name)
        scratch.replace(root / CURRENT)
        sync_folder(root)
    known = [i for i in _history(root).activated if i not in (name, before)]
    write_text(root / HISTORY, documents.to_json(_History((*known, *([before] if before else []), name))))


def _prune(root: Path) -> None:
    """Remove versions beyond the newest three activated ones; never the one in use or the one before."""
    keep = {_current_id(root), _previous_id(root), *_history(root).activated[-_KEPT_VERSIONS:]}
    for folder in (root / _VERSIONS).glob("*"):
        if folder.name not in keep and not folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)


# --- reading ----------------------------------------------------------------------------------------------------------


def _current_id(root: Path) -> str | None:
    try:
        return (root / CURRENT).readlink().name
    except OSError:
        return None


def _previous_id(root: Path) -> str | None:
    """Return the version that was in use last before the present one and is still there."""
    present = _current_id(root)
    for name in reversed(_history(root).activated):
        if name != present and (root / _VERSIONS / name / RECORD).is_file():
            return name
    return None


def _history(root: Path) -> _History:
    try:
        return documents.from_json(_History, (root / HISTORY).read_bytes(), HISTORY)
    except (OSError, ConfigError):
        return _History()  # lost or damaged: then there is nothing to go back to


def _read_record(folder: Path) -> InstallRecord:
    try:
        return documents.from_json(InstallRecord, (folder / RECORD).read_bytes(), str(folder / RECORD))
    except OSError as error:
        raise StorageError(
            f"{folder / RECORD} cannot be read: {error.strerror}", hint="install the bundle again"
        ) from None


def _check_root(root: Path) -> None:
    if not (root / _VERSIONS).is_dir():
        raise ConfigError(f"nothing is installed below {root}", hint="edgepack install BUNDLE --root DIR")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the root: one installation at a time."""
    with storage_errors(root):
        for folder in (root / _VERSIONS, root / PLANS):
            folder.mkdir(parents=True, exist_ok=True)
        (root / PLANS).chmod(0o700)  # engines are code for the GPU
        with (root / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StorageError(
                    f"another process is installing below {root}", hint="wait until it has finished, then install again"
                ) from None
            yield


def _remove_left_overs(root: Path) -> None:
    """Remove what a killed installation left; the lock is held."""
    for left in (root / _VERSIONS).glob(".*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in root.glob(f".{CURRENT}.*"):
        left.unlink(missing_ok=True)
    for folder in (root / _VERSIONS).glob("*"):
        if not (folder / RECORD).is_file() and folder.name != _current_id(root):
            shutil.rmtree(folder, ignore_errors=True)  # copied, never proved
