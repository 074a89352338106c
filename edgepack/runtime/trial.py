"""A new version on trial: in use, and not yet known to be well; what failed before; and the log of what happened.

``trial.json`` is there from before the switch until the health command has passed. Whoever finds it later, after a kill
or a power cut, lets the version before return. ``failures.json`` counts, by the bundle's digest, how often it failed: a
bundle that failed twice is not tried again. ``audit.jsonl`` has a line for everything that was put in use or refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import storage_errors, sync_folder, write_text
from edgepack.errors import ConfigError, VerificationError

TRIAL, FAILURES = "trial.json", "failures.json"
AUDIT, AUDIT_OLD = "audit.jsonl", "audit.1.jsonl"
MOST_FAILURES = 2
_MOST_AUDIT_BYTES = 1 << 20
_KEPT_FAILURES = 100
_PAUSE_S = 1.0
_TAIL_CHARACTERS = 300
_PIPE_BYTES = 1 << 16  # what a pipe holds: of a process that has ended one read gives the last words
_LOOK_S = 0.05


@dataclass(frozen=True)
class Trial:
    """The version on trial, the one that returns when it is not well, and a number that no other trial has."""

    id: str
    sha256: str
    before: str | None
    since: str
    number: str


@dataclass(frozen=True)
class Failures:
    """By digest, the numbers of the trials and proofs in which a bundle failed."""

    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """A line of the audit log; times are UTC by the device's clock."""

    at: str
    event: str
    id: str
    name: str
    version: str
    sha256: str
    signers: tuple[str, ...] = ()
    reason: str | None = None


def now_text() -> str:
    """Return the time as records hold it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def begin(root: Path, name: str, sha256: str, before: str | None) -> Trial:
    """Note that a version is about to be put in use on trial."""
    trial = Trial(name, sha256, before, now_text(), secrets.token_hex(8))
    write_text(root / TRIAL, documents.to_json(trial))
    return trial


def read_trial(root: Path) -> Trial | None:
    """Return the trial that was not ended; None without one. One that cannot be read was never begun."""
    try:
        return documents.from_json(Trial, (root / TRIAL).read_bytes(), TRIAL)
    except (OSError, ConfigError):
        return None


def end(root: Path) -> None:
    """Note that no version is on trial."""
    with storage_errors(root / TRIAL), contextlib.suppress(FileNotFoundError):
        (root / TRIAL).unlink()
        sync_folder(root)


def count_failure(root: Path, sha256: str, number: str) -> int:
    """Note that a bundle failed and return how often; the same trial counts once."""
    known = dict(_failures(root).failed)
    numbers = tuple(dict.fromkeys((*known.pop(sha256, ()), number)))
    known[sha256] = numbers
    kept = dict(list(known.items())[-_KEPT_FAILURES:])
    write_text(root / FAILURES, documents.to_json(Failures(kept)))
    return len(numbers)


def forget_failures(root: Path, sha256: str) -> None:
    """Let a bundle be tried anew."""
    known = dict(_failures(root).failed)
    if known.pop(sha256, None) is not None:
        write_text(root / FAILURES, documents.to_json(Failures(known)))


def has_failed(root: Path, trial: Trial) -> bool:
    """Say whether a trial was counted already."""
    return trial.number in _failures(root).failed.get(trial.sha256, ())


def refuse_failed(root: Path, sha256: str) -> None:
    """Raise ``VerificationError`` for a bundle that failed twice here."""
    count = len(_failures(root).failed.get(sha256, ()))
    if count >= MOST_FAILURES:
        raise VerificationError(
            f"this bundle failed {count} times here and is not tried again", hint=f"see {root / AUDIT}; or give --again"
        )


def log(root: Path, event: Event) -> None:
    """Add a line to the audit log; the one before the last megabyte goes."""
    path = root / AUDIT
    with storage_errors(path):
        if path.exists() and path.stat().st_size > _MOST_AUDIT_BYTES:
            path.replace(root / AUDIT_OLD)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(documents.encode(event), ensure_ascii=True) + "\n")
            file.flush()
            os.fsync(file.fileno())


def is_well(
    command: str,
    window_s: float,
    environment: Mapping[str, str],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str | None:
    """Run the user's health command until it succeeds; return why it did not within ``window_s``, None when it did."""
    deadline = clock() + window_s
    while True:
        why = _try(command, max(deadline - clock(), 0.1), environment)
        if why is None:
            return None
        if clock() + _PAUSE_S >= deadline:
            return why
        sleep(_PAUSE_S)


def _try(command: str, limit_s: float, environment: Mapping[str, str]) -> str | None:
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        said = _until_it_ends(process, limit_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if said is None:
        return f"the health command did not end in {limit_s:.0f} s"
    words = said.decode(errors="replace").strip()[-_TAIL_CHARACTERS:]
    if process.returncode == 0:
        return None
    return f"the health command ended with {process.returncode}" + (f": {words}" if words else "")


def _until_it_ends(process: subprocess.Popen[bytes], limit_s: float) -> bytes | None:
    """Return the last that a process said when it has ended, None when it does not in time.

    Its output is read as it comes, and only the end is kept. A service that it has started may keep the pipe open.
    """
    assert process.stdout is not None
    handle, said, deadline = process.stdout.fileno(), b"", time.monotonic() + limit_s
    os.set_blocking(handle, False)
    ready = select.poll()
    ready.register(handle, select.POLLIN)
    while True:
        ended = process.poll() is not None
        left_s = deadline - time.monotonic()
        if ready.poll(0 if ended else max(min(left_s, _LOOK_S), 0.0) * 1000):
            piece = os.read(handle, _PIPE_BYTES)
            said = (said + piece)[-_PIPE_BYTES:]
            if not piece and not ended:  # it closed its output and goes on
                time.sleep(min(max(left_s, 0.0), _LOOK_S))
        if ended:
            return said
        if left_s <= 0:
            return None


def _failures(root: Path) -> Failures:
    try:
        return documents.from_json(Failures, (root / FAILURES).read_bytes(), FAILURES)
    except (OSError, ConfigError):
        return Failures()
