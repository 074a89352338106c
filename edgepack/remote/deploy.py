"""Brings a bundle to a machine and installs it there; measures and verifies bundles on machines that are elsewhere."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.base import documents
from edgepack.bundle.archive import Bundle, open_bundle
from edgepack.errors import EdgepackError, RemoteError
from edgepack.remote.commands import SAME_VERSION, Facts, call, error_of, need_edgepack, send
from edgepack.remote.ssh import Board, ask, edgepack
from edgepack.report.entries.impossible import impossible
from edgepack.runtime.install import Health
from edgepack.runtime.root import InstallRecord, RootStatus
from edgepack.runtime.run import Answer, read_answer
from edgepack.specs.result import Result, Scenario
from edgepack.specs.run import Verification
from edgepack.specs.types import Progress, no_progress

DEFAULT_ROOT = "edgepack"  # in the home folder of who logs in
_INSTALL_S = 7200.0  # building an engine takes tens of minutes on a small board
_STATUS_S = 120.0
_STARTUP_S = 600.0
_CLOCKS_DIFFER_S = 86_400
# What a command says as JSON, a zero, and the arrays that it wrote.
_WITH_OUTPUTS = (
    "d=$(mktemp -d) || exit 1; trap 'rm -rf \"$d\"' EXIT; "
    '"$0" "$@" -o "$d/outputs.npz" --json >"$d/said" || exit $?; cat "$d/said"; printf "\\0"; cat "$d/outputs.npz"'
)


@dataclass(frozen=True)
class Deployed:
    """What came of one board. ``already`` says that it had the very bundle in use, so that nothing was done."""

    host: str
    record: InstallRecord
    already: bool = False
    sent_bytes: int = 0
    cuts: int = 0
    note: str = ""


def deploy(
    bundle: Path,
    board: Board,
    root: str,
    *,
    allow_native: bool = False,
    again: bool = False,
    health: Health | None = None,
    progress: Progress = no_progress,
    clock: Callable[[], float] = time.time,
) -> Deployed:
    """Send ``bundle`` to a board, install it below ``root`` there and return what came of it.

    A board that has this very bundle in use is left alone, unless ``again``. With ``health`` it is on trial first.
    Raises ``RemoteError`` when the board cannot be reached or says that it installed another file, and the error that
    the installation ended with there; what was in use stays in use then.
    """
    checked = open_bundle(bundle)
    facts = need_edgepack(board)
    if not again and (found := in_use(board, root)) is not None and found.sha256 == checked.sha256:
        return Deployed(board.host, found, already=True, note=_clock_note(facts, clock()))
    sent = send(board, bundle, progress)
    words = ["install", sent.path, "--root", root, "--wait", "10min"]
    words += ["--allow-native"] if allow_native else []
    words += ["--again"] if again else []
    words += ["--health", health.command, "--window", f"{health.window_s:g}s"] if health is not None else []
    limit_s = _INSTALL_S + (health.window_s if health is not None else 0.0)
    record = call(board, tuple(words), InstallRecord, limit_s)
    if record.sha256 != checked.sha256:
        raise RemoteError(f"{board.host} says that it installed a different file", hint="see 'edgepack status --on'")
    return Deployed(board.host, record, False, sent.sent_bytes, sent.cuts, _clock_note(facts, clock()))


def in_use(board: Board, root: str) -> InstallRecord | None:
    """Return the version that is in use and whole on a board; None when there is none."""
    try:
        found = remote_status(board, root)
    except EdgepackError as error:
        if error.exit_code == 2:  # nothing is installed below that folder
            return None
        raise
    return found.current if found.problem is None else None


def remote_status(board: Board, root: str) -> RootStatus:
    """Return what is installed on a board; damage is a problem in it. Raises as ``call``."""
    return call(board, ("status", "--root", root), RootStatus, _STATUS_S, accept=(0, 5))


def remote_rollback(board: Board, root: str) -> InstallRecord:
    """Put the version before the present one in use again on a board. Raises as ``call``."""
    return call(board, ("rollback", "--root", root), InstallRecord, _STATUS_S)


def remote_verify(
    bundle: Path, board: Board, options: tuple[str, ...] = (), progress: Progress = no_progress
) -> Verification:
    """Run a bundle's golden vectors on a board. Raises as ``call``, and ``RemoteError`` for one that skipped some."""
    checked, path = _sent(bundle, board, progress)
    found = call(board, ("verify", path, *options), Verification, _INSTALL_S, (0, 5))
    judged = {output.name for output in found.outputs}
    missing = [spec.name for spec in checked.manifest.outputs if spec.name not in judged]
    if found.passed and (missing or found.samples < 1 or not all(output.passed for output in found.outputs)):
        raise RemoteError(
            f"{board.host} says that {bundle.name} passed, and has not shown it"
            + (f" of {missing[0]!r}" if missing else ""),
            hint=SAME_VERSION,
        )
    return found


def remote_benchmark(
    bundle: Path,
    board: Board,
    scenario: Scenario,
    options: tuple[str, ...] = (),
    tuned: bool = True,
    progress: Progress = no_progress,
) -> Result:
    """Measure a bundle on a board by ``scenario``. Raises as ``call``, and ``RemoteError`` for a result of another."""
    plan: dict[str, object] = {
        "--scenario": scenario.name,
        "--duration": f"{scenario.duration_ns / 1e6:.0f}ms",
        "--warmup": f"{max(scenario.warmup_ns / 1e6, 1):.0f}ms",
        "--batch": scenario.batch,
        "--seed": scenario.seed,
        "--launches": scenario.launches,
    }
    if scenario.latency_bound_ns is not None:
        plan["--latency-bound"] = f"{scenario.latency_bound_ns / 1e6:g}ms"
    if scenario.steady_ns:
        plan["--until-steady"] = f"{scenario.steady_ns / 1e6:.0f}ms"
    words = [str(word) for pair in plan.items() for word in pair]
    checked, path = _sent(bundle, board, progress)
    every = ("benchmark", path, *words, "--tuned" if tuned else "--untuned", *options)
    found = call(board, every, Result, _STARTUP_S + (10 * scenario.duration_ns + scenario.steady_ns) / 1e9)
    manifest = checked.manifest
    asked = (checked.sha256, manifest.name, manifest.target, manifest.precision, scenario.name)
    if (found.bundle_sha256, found.bundle_name, found.target, found.precision, found.scenario.name) != asked:
        raise RemoteError(f"{board.host} measured something else than {bundle.name}", hint=SAME_VERSION)
    if problem := impossible(found):
        raise RemoteError(f"{board.host} says that {problem}, which no measurement gives", hint=SAME_VERSION)
    return found


def remote_run(bundle: Path, source: str, board: Board, options: tuple[str, ...] = ()) -> Answer:
    """Run a bundle on a board with input from here, a file or the text itself. Raises as ``call``."""
    _, model = _sent(bundle, board, no_progress)
    given = send(board, Path(source)).path if os.path.isfile(source) else source  # noqa: PTH113 (of a long sentence)
    command = edgepack(board, "run", model, "--input", given, *options)
    found = ask(board, ["sh", "-c", _WITH_OUTPUTS, *command], _INSTALL_S)
    if found.code:
        raise error_of(board, found)
    summary, _, arrays = found.out.partition(b"\0")
    try:
        said = documents.read_json(summary)
        with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
            return read_answer(said, {name: file[name] for name in said["outputs"]})
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise RemoteError(f"{board.host} does not answer as edgepack does: {error}") from None


def _sent(bundle: Path, board: Board, progress: Progress) -> tuple[Bundle, str]:
    """Check a bundle and send it; return it with its place on the board."""
    checked = open_bundle(bundle)
    need_edgepack(board)
    return checked, send(board, bundle, progress).path


def _clock_note(facts: Facts, now: float) -> str:
    """Say when a board's clock is wrong: signatures end by it, and its records are dated by it."""
    off = facts.time_s - now
    if abs(off) < _CLOCKS_DIFFER_S:
        return ""
    return f"its clock is {abs(off) / 86_400:.0f} days {'ahead' if off > 0 else 'behind'}"
