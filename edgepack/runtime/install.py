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
from edgepack.base.files import storage_errors, sync_folder, write_text
from edgepack.base.owned import MARKER, check_ours, mark
from edgepack.bundle.archive import Bundle, open_bundle, open_checked
from edgepack.errors import ConfigError, EdgepackError, StorageError, TrustError, VerificationError
from edgepack.runtime.copy_in import copy_in, make_room, sha256_open
from edgepack.runtime.load import ID_DIGITS, PLANS, RECORD
from edgepack.runtime.prove import prove_in_child, too_far
from edgepack.runtime.root import (
    CURRENT,
    HISTORY,
    KIND,
    LOCK,
    VERSIONS,
    History,
    InstallRecord,
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
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Progress, no_progress
from edgepack.trust.policy import Admission, admit

_LOOK_S = 0.2  # how often a root that another process holds is looked at


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
            digest = sha256_open(file)
            forget_failures(root, digest) if again else refuse_failed(root, digest)
            make_room(root, checked.size_bytes)
            folder = copy_in(checked, file, digest, root, progress)
            try:
                record = prove_in_child(checked.manifest, digest, folder, options, progress)
                record = dataclasses.replace(record, signers=admission.signers)
                if not record.verification.passed:
                    raise VerificationError(too_far(record))
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
        f"{record.name} {record.version} is not healthy: {why}; {returned}", hint=f"see {root / AUDIT}"
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


# --- steps ------------------------------------------------------------------------------------------------------------


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
            f"{place} is a folder, not a link, and holds files that no version has", hint=f"move {place} away"
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
