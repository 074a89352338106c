"""A bundle on many machines, wave by wave, by ``fleet.toml``: one board is one row, and a bad wave stops the next.

A board that has the bundle in use already is not sent it again, so that a deployment that was stopped goes on where it
was. Each board proves the bundle, passes the health command and is measured; one that misses the bound of its latency
goes back to the version before.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from edgepack.base import documents
from edgepack.base.files import read_regular, write_text
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, EdgepackError, RemoteError
from edgepack.remote.commands import need_edgepack
from edgepack.remote.deploy import Deployed, deploy, in_use, remote_benchmark, remote_rollback
from edgepack.remote.ssh import Board
from edgepack.runtime.install import Health
from edgepack.specs.result import Result, Scenario
from edgepack.specs.types import Progress, no_progress

Status = Literal["ok", "already", "failed", "skipped", "planned"]
_MOST_BYTES = 128 << 10
_MOST_PARALLEL = 64
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|min)")
_NS = {"ms": 1e6, "s": 1e9, "min": 60e9}
ROWS = "deploy.json"


@dataclass(frozen=True)
class Wave:
    """The groups that get a bundle together, and how many of their boards may fail before everything stops."""

    groups: tuple[str, ...]
    most_failed: int = 0


@dataclass(frozen=True)
class Fleet:
    """``fleet.toml``: groups of hosts and the waves in their order (without any: all groups, one after another).

    ``health`` is a command on the board that must succeed within ``window``; ``p90`` is the largest latency that is
    allowed; ``duration`` how long it is measured, "0s" for not at all. ``parallel`` boards are worked on at once.
    """

    groups: Mapping[str, tuple[str, ...]]
    waves: tuple[Wave, ...] = ()
    root: str = "edgepack"
    python: str = "python3"
    parallel: int = 4
    allow_native: bool = False
    health: str | None = None
    window: str = "60s"
    p90: str | None = None
    duration: str = "2s"


@dataclass(frozen=True)
class BoardRow:
    """What became of one board; ``wave`` counts from 1, ``p90_ns`` is what was measured there."""

    host: str
    wave: int
    status: Status
    reason: str | None = None
    version: str | None = None
    sha256: str | None = None
    p90_ns: int | None = None
    sent_bytes: int = 0
    took_ns: int = 0
    exit_code: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """``deploy.json``: the bundle and a row for each board; results by host."""

    bundle: str
    sha256: str
    rows: tuple[BoardRow, ...]
    stopped: str | None = None
    results: Mapping[str, Result] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Return the highest exit code of a board."""
        return max((row.exit_code for row in self.rows), default=0)


def read_fleet(path: Path) -> Fleet:
    """Read and check ``fleet.toml``. Raises ``ConfigError`` with what to write instead."""
    try:
        text = read_regular(path, _MOST_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ConfigError(f"{path} is larger than 128 KiB: not a fleet.toml") from None
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check the path") from None
    try:
        data = documents.parse_toml(text.decode("utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are such
        raise ConfigError(f"{path}: not valid TOML: {error}", hint="correct that line") from None
    fleet: Fleet = documents.decode(Fleet, data, str(path))
    for problem in _problems(fleet):
        raise ConfigError(f"{path}: {problem}", hint="see docs/devices.md for an example")
    return fleet


def waves_of(fleet: Fleet) -> list[tuple[Wave, tuple[str, ...]]]:
    """Return the waves with their hosts, each host once."""
    waves = fleet.waves or tuple(Wave((name,)) for name in fleet.groups)
    return [(wave, tuple(host for name in wave.groups for host in fleet.groups[name])) for wave in waves]


def deploy_fleet(
    bundle: Path,
    fleet: Fleet,
    out: Path | None = None,
    *,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Deployment:
    """Deploy a bundle wave by wave and return a row for each board.

    ``out`` is a folder for ``deploy.json`` and a result of each board, written after each wave, so that what was done
    is known when the next one is cut off. With ``dry_run`` boards are only asked, all of them. A board that fails is a
    row; raises only what ``open_bundle`` does.
    """
    checked = open_bundle(bundle)
    rows: list[BoardRow] = []
    results: dict[str, Result] = {}
    stopped: str | None = None
    total = sum(len(hosts) for _, hosts in waves_of(fleet))
    for number, (wave, hosts) in enumerate(waves_of(fleet), 1):
        if stopped is not None:
            made = [BoardRow(host, number, "skipped", stopped) for host in hosts]
        else:
            made = []
            for row, result in _together(_ask if dry_run else _work, bundle, checked.sha256, fleet, hosts, number):
                made.append(row)
                progress("boards", len(rows) + len(made), total)
                if result is not None:
                    results[row.host] = result
            failed = [row.host for row in made if row.status == "failed"]
            if len(failed) > wave.most_failed and not dry_run:
                stopped = (
                    f"wave {number} stopped: {len(failed)} of {len(hosts)} boards failed ({', '.join(failed[:5])})"
                )
        rows += made
        if out is not None and not dry_run and len(rows) < total:
            ended = stopped or f"cut off after wave {number} of {len(waves_of(fleet))}"
            _write(Deployment(str(bundle), checked.sha256, tuple(rows), ended, results), out)
    found = Deployment(str(bundle), checked.sha256, tuple(rows), stopped, results)
    if out is not None and not dry_run:
        _write(found, out)
    return found


_Row: TypeAlias = tuple[BoardRow, Result | None]


def _together(
    work: Callable[[Path, str, Fleet, str, int], _Row],
    bundle: Path,
    sha256: str,
    fleet: Fleet,
    hosts: tuple[str, ...],
    wave: int,
) -> Iterator[_Row]:
    """Yield what became of the boards of one wave, in their order; several are worked on at once."""
    with ThreadPoolExecutor(fleet.parallel) as pool:
        yield from pool.map(lambda host: work(bundle, sha256, fleet, host, wave), hosts)


def _work(bundle: Path, _sha256: str, fleet: Fleet, host: str, wave: int) -> _Row:
    """Do what is to be done on one board."""
    began = time.monotonic_ns()
    board = Board(host, fleet.python)
    row = BoardRow(host, wave, "failed")
    result = None
    try:
        health = Health(fleet.health, _ns(fleet.window) / 1e9) if fleet.health else None
        done = deploy(bundle, board, fleet.root, allow_native=fleet.allow_native, health=health)
        row = _done(row, done)
        if _ns(fleet.duration):
            result = _measured(bundle, board, fleet)
            row = _judged(row, result, fleet, board, already=done.already)
    except EdgepackError as error:
        row = dataclasses.replace(row, status="failed", reason=_told(error, host), exit_code=error.exit_code)
    return dataclasses.replace(row, took_ns=time.monotonic_ns() - began), result


def _ask(_bundle: Path, sha256: str, fleet: Fleet, host: str, wave: int) -> _Row:
    """Return what would be done, by asking the board."""
    board = Board(host, fleet.python)
    try:
        facts = need_edgepack(board)
        found = in_use(board, fleet.root)
    except EdgepackError as error:
        return BoardRow(host, wave, "failed", _told(error, host), exit_code=error.exit_code), None
    has = f"edgepack {facts.edgepack}, Python {facts.python}, {facts.arch}"
    if found is None:
        return BoardRow(host, wave, "planned", "nothing is in use there", notes=(has,)), None
    status: Status = "already" if found.sha256 == sha256 else "planned"
    return BoardRow(host, wave, status, None, found.version, found.sha256, notes=(has,)), None


def _told(error: EdgepackError, host: str) -> str:
    """Return why a board failed; its row names it already."""
    return error.message.removeprefix(f"{host}: ")


def _done(row: BoardRow, done: Deployed) -> BoardRow:
    return dataclasses.replace(
        row,
        status="already" if done.already else "ok",
        version=done.record.version,
        sha256=done.record.sha256,
        sent_bytes=done.sent_bytes,
        notes=(done.note,) if done.note else (),
    )


def _measured(bundle: Path, board: Board, fleet: Fleet) -> Result:
    scenario = Scenario("SingleStream", int(_ns(fleet.duration)), 200_000_000, 1, 0, launches=1)
    options = ("--no-limit", *(("--allow-native",) if fleet.allow_native else ()))
    return remote_benchmark(bundle, board, scenario, options)


def _judged(row: BoardRow, result: Result, fleet: Fleet, board: Board, *, already: bool) -> BoardRow:
    """Return the row with the latency; a board that misses its bound goes back to the version before."""
    if result.bundle_sha256 != row.sha256:
        raise RemoteError("it measured a different bundle from the one in use", hint="see 'edgepack status --on'")
    p90 = next((p.value_ns for p in result.percentiles if p.p == 90.0), None)
    row = dataclasses.replace(row, p90_ns=p90)
    if fleet.p90 is None:
        return row
    bound = _ns(fleet.p90)
    if p90 is not None and p90 <= bound:
        return row
    why = f"p90 is {p90 / 1e6:.3g} ms, more than the {bound / 1e6:.3g} ms allowed" if p90 is not None else "no p90"
    if not already:
        try:
            returned = remote_rollback(board, fleet.root)
            why += f"; version {returned.version} is in use again"
        except EdgepackError as error:
            why += f"; it could not go back: {_told(error, board.host)}"
    return dataclasses.replace(row, status="failed", reason=why, exit_code=5)


def _ns(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{text[:40]!r} is not a duration", hint="write it like 20ms, 2s or 1min")
    return float(found[1]) * _NS[found[2]]


def _problems(fleet: Fleet) -> Iterator[str]:
    hosts = [host for group in fleet.groups.values() for host in group]
    if not hosts:
        yield "groups: there is no host"
    for host in hosts:
        try:
            Board(host, fleet.python)
        except ConfigError as error:
            yield error.message
    for name in (name for wave in fleet.waves for name in wave.groups):
        if name not in fleet.groups:
            yield f"waves: there is no group {name!r}; {documents.suggestion(name, fleet.groups)}"
            return
    listed = [host for _, found in waves_of(fleet) for host in found]
    if twice := sorted({host for host in listed if listed.count(host) > 1}):
        yield f"{twice[0]} is deployed to twice"
    if not 1 <= fleet.parallel <= _MOST_PARALLEL:
        yield f"parallel: from 1 to {_MOST_PARALLEL}"
    if any(wave.most_failed < 0 for wave in fleet.waves):
        yield "most_failed: at least 0"
    yield from _duration_problems(fleet)


def _duration_problems(fleet: Fleet) -> Iterator[str]:
    for name, text in (("window", fleet.window), ("duration", fleet.duration), ("p90", fleet.p90)):
        try:
            _ns(text or "1s")
        except ConfigError as error:
            yield f"{name}: {error.message}"


def result_name(host: str) -> str:
    """Return the file name of a host's result: another one for each host, and never that of the rows."""
    name = f"{quote(host, safe='@')}.json"
    return name if name != ROWS else f"{host}@.json"  # which is not a host


def _write(found: Deployment, out: Path) -> None:
    for host, result in found.results.items():
        write_text(out / result_name(host), documents.to_json(result))
    write_text(out / ROWS, documents.to_json(dataclasses.replace(found, results={})))
