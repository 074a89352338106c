"""Installs bundles on a device: checked, copied whole, its engine built, verified with golden vectors, then activated.

``ROOT`` holds ``versions/ID`` with the bundle, its record ``install.json`` and a link to ``ROOT/plans``, where engines
that this device built are kept for all versions. ``ROOT/current`` is a link to the version in use: it changes by one
rename, after the golden vectors passed. A process killed at any moment leaves the version in use as it was; what it
left half-copied goes with the next installation. What a root holds is read in ``root.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgepack.base import documents
from edgepack.base.files import atomic_write, scratch_folder, storage_errors, sync_folder, write_text
from edgepack.base.owned import MARKER, check_ours, mark
from edgepack.bundle.archive import Bundle, open_bundle, open_checked
from edgepack.device.host import host_facts
from edgepack.errors import (
    ChildError,
    ConfigError,
    EdgepackError,
    IntegrityError,
    StorageError,
    TrustError,
    VerificationError,
)
from edgepack.execution import child
from edgepack.runtime.load import ID_DIGITS, PLANS, RECORD, load
from edgepack.runtime.root import (
    CURRENT,
    HISTORY,
    KIND,
    LOCK,
    VERSIONS,
    History,
    InstallRecord,
    RootStatus,
    check_root,
    check_version,
    current_id,
    history,
    is_copied_version,
    is_made_by_us,
    is_unproved,
    left_overs,
    previous_id,
    read_record,
    version_folders,
)
from edgepack.runtime.trial import (
    AUDIT,
    Event,
    Trial,
    begin,
    count_failure,
    end,
    forget_failures,
    has_failed,
    is_well,
    log,
    now_text,
    read_trial,
    refuse_failed,
)
from edgepack.runtime.verify import other_ways, verify_loaded, verify_ways
from edgepack.specs.bundle import Manifest
from edgepack.specs.run import RunOptions, Verification
from edgepack.specs.types import Progress, no_progress
from edgepack.trust.policy import Admission, admit

_LIMIT_S = 7200.0  # building an engine takes tens of minutes on a small board
_MARGIN_BYTES = 1 << 20  # for records; a full disk stops other programs too
_LOOK_S = 0.2  # how often a root that another process holds is looked at
_FORMAT = 1
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Proof:
    """What the child process that loads and verifies a bundle returns."""

    engine: str
    chosen: str
    passed_over: tuple[str, ...]
    verification: Verification


@dataclass(frozen=True)
class Health:
    """How a new version shows that it is well: a shell command that succeeds within ``window_s`` seconds.

    It is run again each second until then. ``EDGEPACK_BUNDLE`` and ``EDGEPACK_VERSION`` tell it what is in use.
    """

    command: str
    window_s: float = 60.0


def install(
    bundle: Path,
    root: Path,
    options: RunOptions = RunOptions(),  # noqa: B008
    progress: Progress = no_progress,
    wait_s: float = 0.0,
    health: Health | None = None,
    *,
    again: bool = False,
) -> InstallRecord:
    """Install ``bundle`` below ``root`` and put it in use when its golden vectors pass here.

    The bundle is opened once; what is copied from it is what was checked, and its digest is recorded. The policy of
    this device must let it in before anything is written. Loading and verifying run in a child process. With
    ``health`` the version is on trial until that command has succeeded; when it does not, the version before returns.
    A bundle that failed twice here is refused, unless ``again``. ``wait_s`` is how long another installation below
    ``root`` is waited for.

    Raises ``TrustError`` when the policy refuses it, ``ConfigError`` when ``root`` is somebody else's folder,
    ``VerificationError`` when an output is too far off, the process dies or the health command fails, ``StorageError``
    on a full disk, and what ``load`` raises; the version that was in use is in use then.
    """
    with open_checked(bundle) as (file, checked):
        admission = _admit(checked, root)
        check_ours(root, KIND, is_made_by_us)
        with _locked(root, wait_s):
            settle(root)
            _remove_left_overs(root)
            digest = _sha256(file)
            forget_failures(root, digest) if again else refuse_failed(root, digest)
            _make_room(root, checked.size_bytes)
            folder = _copy_in(checked, file, digest, root, progress)
            try:
                record = _prove(checked.manifest, digest, folder, options, progress)
                record = dataclasses.replace(record, signers=admission.signers)
                if not record.verification.passed:
                    raise VerificationError(_too_far(record))
                write_text(folder / RECORD, documents.to_json(record))
            except BaseException as error:
                if current_id(root) != folder.name and is_unproved(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, VerificationError):
                    count_failure(root, digest, secrets.token_hex(8))
                    log(root, _event("refused", checked, digest, admission.signers, error.message))
                raise
            _put_in_use(root, record, health)
            _prune(root, admission.keep)
    return record


def _put_in_use(root: Path, record: InstallRecord, health: Health | None) -> None:
    """Switch to a proved version; with ``health`` on trial. Raises ``VerificationError`` when it is not well."""
    before = current_id(root)
    if health is None or before == record.id:
        _activate(root, record.id)
        log(root, _told("in use", record))
        return
    trial = begin(root, record.id, record.sha256, before)
    _activate(root, record.id)
    log(root, _told("on trial", record))
    here = {"EDGEPACK_BUNDLE": str((root / CURRENT / record.file).absolute()), "EDGEPACK_VERSION": record.version}
    why = is_well(health.command, health.window_s, here)
    if why is None:
        end(root)
        log(root, _told("in use", record))
        return
    _go_back(root, trial, why)
    returned = "the version before is in use again" if trial.before else "there is none before it"
    raise VerificationError(
        f"{record.name} {record.version} is not well: {why}; {returned}", hint=f"see {root / AUDIT}"
    )


def settle(root: Path) -> bool:
    """End a trial that was cut off, as by a power cut, and say whether there was one; the version before returns.

    The root must be held.
    """
    trial = read_trial(root)
    unfinished = trial is not None and (current_id(root) == trial.id or has_failed(root, trial))
    if trial is not None and unfinished:
        _go_back(root, trial, "its trial was cut off before its health command had passed")
    end(root)
    return unfinished


def recover(root: Path, wait_s: float = 0.0) -> InstallRecord | None:
    """End a trial that was cut off and return the version that is in use; what a device does when it starts.

    Raises ``ConfigError`` when nothing was installed, ``StorageError`` when an installation goes on just now, and when
    the record of what is in use is damaged.
    """
    check_root(root)
    check_ours(root, KIND, is_made_by_us)
    with _locked(root, wait_s):
        settle(root)
        name = current_id(root)
        return read_record(root / VERSIONS / name) if name is not None else None


def _go_back(root: Path, trial: Trial, why: str) -> None:
    """Let the version before the trial return, whole, and forget the one on trial; each step may be the last."""
    count_failure(root, trial.sha256, trial.number)
    if current_id(root) == trial.id:
        if trial.before is not None and _is_whole(root / VERSIONS / trial.before):
            _activate(root, trial.before)
        else:
            (root / CURRENT).unlink()
            sync_folder(root)
    left = tuple(i for i in history(root).activated if i != trial.id)
    write_text(root / HISTORY, documents.to_json(History(left)))
    folder = root / VERSIONS / trial.id
    with contextlib.suppress(EdgepackError):
        log(root, _told("went back", read_record(folder), why))
    if current_id(root) != trial.id:
        shutil.rmtree(folder, ignore_errors=True)
    end(root)


def _is_whole(folder: Path) -> bool:
    try:
        check_version(folder, read_record(folder))
    except EdgepackError:
        return False
    return True


def rollback(root: Path) -> InstallRecord:
    """Put the version that was in use before the present one in use again, and return its record.

    Its bundle is checked whole first, that it is the one that was installed, and that the policy of this device still
    takes it. A version that was on trial when it was cut off is left for the one before it. Raises ``ConfigError`` when
    there is none, ``IntegrityError`` and ``TrustError``.
    """
    check_root(root)
    check_ours(root, KIND, is_made_by_us)
    with _locked(root):
        if settle(root) and (name := current_id(root)) is not None:
            return read_record(root / VERSIONS / name)
        wanted = previous_id(root)
        if wanted is None:
            raise ConfigError(
                f"{root} has no earlier version to go back to", hint=f"see 'edgepack status --root {root}'"
            )
        record = read_record(root / VERSIONS / wanted)
        check_version(root / VERSIONS / wanted, record)
        admit(open_bundle(root / VERSIONS / wanted / record.file), new=False)
        _activate(root, wanted)
        log(root, _told("rolled back to", record))
    return record


def _admit(bundle: Bundle, root: Path) -> Admission:
    """Return why the policy of this device takes a bundle; a refusal is noted where there is an installation."""
    try:
        return admit(bundle)
    except TrustError as error:
        if (root / VERSIONS).is_dir() and (root / MARKER).is_file():
            log(root, _event("refused", bundle, bundle.sha256, (), error.message))
        raise


def _event(event: str, bundle: Bundle, sha256: str, signers: tuple[str, ...], reason: str) -> Event:
    manifest = bundle.manifest
    name = bundle.manifest_sha256[:ID_DIGITS]
    return Event(now_text(), event, name, manifest.name, manifest.version, sha256, signers, reason)


def _told(event: str, record: InstallRecord, reason: str | None = None) -> Event:
    return Event(
        now_text(), event, record.id, record.name, record.version, record.sha256, record.signers, reason
    )  # fmt: skip


def describe_record(record: InstallRecord) -> tuple[str, ...]:
    """Return lines for people: the active version, its engine and why, and how it was verified."""
    proof = record.verification
    lines = [
        f"{record.name} {record.version} for {record.target}, {record.precision}: active since {record.installed_at}",
        f"  engine: {record.engine}" + (f" ({record.chosen})" if record.chosen else ""),
        *(f"  not used: {reason}" for reason in record.passed_over),
        f"  verified with {proof.samples} golden vectors on "
        + ", ".join(f"{name} {version}" for name, version in proof.versions.items()),
        *((f"  signed by {', '.join(record.signers)}",) if record.signers else ()),
    ]
    return tuple(lines)


def describe_status(found: RootStatus) -> tuple[str, ...]:
    """Return lines for people: the version in use, what is wrong with it, and the others."""
    lines: list[str] = list(describe_record(found.current)) if found.current else ["no active version"]
    if found.on_trial:
        lines.append("  on trial: its health command has not passed yet")
    if found.problem:
        lines.append(f"  problem: {found.problem}")
    lines += [f"  damaged: {reason}" for reason in found.damaged]
    for record in found.versions:
        if found.current is None or record.id != found.current.id:
            mark = " (rollback goes here)" if record.id == found.previous else ""
            lines.append(f"kept: {record.name} {record.version}, {record.precision}, {record.installed_at}{mark}")
    return tuple(lines)


# --- steps ------------------------------------------------------------------------------------------------------------


def _make_room(root: Path, size: int) -> None:
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


def _copy_in(bundle: Bundle, file: IO[bytes], digest: str, root: Path, progress: Progress) -> Path:
    """Return the folder of the bundle's version, with the whole bundle in it; ``digest`` is of that file."""
    folder = root / VERSIONS / bundle.manifest_sha256[:ID_DIGITS]
    name = f"{bundle.manifest.name}.edgepack"
    if (folder / name).is_file():
        if _is_same(folder / name, digest):
            return folder
        if current_id(root) == folder.name:  # in use: only the file in it is replaced
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


def _is_same(installed: Path, digest: str) -> bool:
    """Say whether an installed bundle is whole and the same file; a signature counts, too."""
    try:
        return open_bundle(installed).sha256 == digest
    except EdgepackError:
        return False  # damaged: copied again


def _sha256(file: IO[bytes]) -> str:
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


def _prove(
    manifest: Manifest, digest: str, folder: Path, options: RunOptions, progress: Progress
) -> InstallRecord:  # fmt: skip
    name = f"{manifest.name}.edgepack"
    with scratch_folder("edgepack-install-") as scratch:
        log = scratch / "install.log"
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
        sha256=digest,
        installed_at=now_text(),
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
    before = current_id(root)
    place = root / CURRENT
    with storage_errors(place):
        scratch = root / f".{CURRENT}.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(Path(VERSIONS) / name)
        copied = _moved_away(place)
        scratch.replace(place)
        sync_folder(root)
        if copied is not None:
            shutil.rmtree(copied, ignore_errors=True)
    known = [i for i in history(root).activated if i not in (name, before)]
    write_text(root / HISTORY, documents.to_json(History((*known, *([before] if before else []), name))))


def _moved_away(place: Path) -> Path | None:
    """Move ``current`` away where it is a folder, as in a copy with links followed, and return where it is."""
    if place.is_symlink() or not place.is_dir():
        return None
    if not is_copied_version(place):
        raise StorageError(
            f"{place} is a folder and no link, and holds other files than a version has", hint=f"move {place} away"
        )
    moved = place.with_name(f".{CURRENT}.{os.getpid()}.old")
    place.rename(moved)
    return moved


def _prune(root: Path, count: int) -> None:
    """Remove versions beyond the ``count`` that were activated last; never the one in use or the one before."""
    keep = {current_id(root), previous_id(root), *history(root).activated[-count:]}
    for folder in version_folders(root):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(root: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the root: one installation at a time; ``wait_s`` is how long another one is waited for."""
    with storage_errors(root):
        mark(root, KIND)
        for folder in (root / VERSIONS, root / PLANS):
            folder.mkdir(exist_ok=True)
        (root / PLANS).chmod(0o700)  # engines are code for the GPU
        with (root / LOCK).open("ab") as file:
            deadline = time.monotonic() + wait_s
            while not _try_lock(file):
                if time.monotonic() >= deadline:
                    raise StorageError(
                        f"another process is installing below {root}",
                        hint="wait until it has finished, then install again",
                    )
                time.sleep(_LOOK_S)
            yield


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_left_overs(root: Path) -> None:
    """Remove what a killed installation left, and versions that it never proved; the lock is held."""
    for left in left_overs(root):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    for folder in version_folders(root):
        if is_unproved(folder) and folder.name != current_id(root):
            shutil.rmtree(folder, ignore_errors=True)
