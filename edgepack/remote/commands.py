"""Commands of edgepack on another machine: what they answer, and errors as they are there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgepack.base import documents
from edgepack.base.files import sha256_file
from edgepack.errors import ConfigError, EdgepackError, RemoteError, ToolchainError
from edgepack.remote.ssh import Answer, Board, SilentError, ask, conversation, edgepack, python
from edgepack.runtime.receive import Received
from edgepack.specs.types import Progress, no_progress

T = TypeVar("T")

SAME_VERSION = "use the same version there: edgepack deploy --bootstrap"
_ONLY_ANSWER = "let no other program print to stdout there, as from ~/.bashrc: scp and rsync need that too"
_SHORT_S = 120.0
_SILENT_S = 120.0  # for an answer; another sender of the same file is waited for half as long
_SLOWEST_DISK = 2_000_000  # bytes a second at which a board writes or reads a file whole before it answers
_CHUNK_BYTES = 1 << 18
_TRIES = 5
_ERROR = re.compile(r"^error: (.*?)(?:\nhint: (.*))?\Z", re.DOTALL | re.MULTILINE)
_PROBE = """
import json, os, platform, sys, time
try:
    from edgepack import __version__ as version
    import click, numpy
except ImportError as error:
    version = None
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "arch": platform.machine(), "libc": platform.libc_ver()[1],
                  "edgepack": version, "time_s": int(time.time()), "abi": sys.implementation.cache_tag}))
"""


@dataclass(frozen=True)
class Facts:
    """What a board says of itself; ``edgepack`` is None where it cannot be imported with numpy and Click."""

    python: str
    arch: str
    libc: str
    edgepack: str | None
    time_s: int
    abi: str


@dataclass(frozen=True)
class Sent:
    """A file on a board: where, how many bytes had to be sent, and how often the link was cut meanwhile."""

    path: str
    sent_bytes: int
    cuts: int


def probe(board: Board) -> Facts:
    """Return what a board is. Raises ``RemoteError``; ``ToolchainError`` when it has no Python."""
    answer = ask(board, python(board, "-c", _PROBE), _SHORT_S)
    if answer.code:
        raise ToolchainError(f"{board.host} cannot run {board.python}: {answer.err[-300:]}", hint="give --python")
    return _read(Facts, answer.out, board)


def need_edgepack(board: Board) -> Facts:
    """Return what a board is. Raises ``ToolchainError`` where edgepack is not there."""
    found = probe(board)
    if found.edgepack is None:
        raise ToolchainError(
            f"{board.host} has no edgepack for {board.python} ({found.python})",
            hint=f"bring it there: edgepack deploy --bootstrap BUNDLE {board.host}",
        )
    return found


def call(board: Board, words: tuple[str, ...], kind: type[T], limit_s: float, accept: tuple[int, ...] = (0,)) -> T:
    """Return what a command prints with ``--json``, as ``kind``. Raises the error that it ended with there."""
    answer = ask(board, edgepack(board, *words, "--json"), limit_s)
    if answer.code not in accept or not answer.out.strip():
        raise error_of(board, answer)
    return _read(kind, answer.out, board)


def error_of(board: Board, answer: Answer) -> EdgepackError:
    """Return the error of a command that failed there, with its exit code."""
    found = _ERROR.search(answer.err)
    if found is None and "No module named edgepack" in answer.err:
        return ToolchainError(f"{board.host} has no edgepack", hint="bring it there: edgepack deploy --bootstrap")
    message = found[1].strip() if found else answer.err[-300:] or f"exit code {answer.code} without a word"
    error = RemoteError(f"{board.host}: {message}", hint=found[2] if found else None)
    error.exit_code = answer.code or 1
    return error


def send(
    board: Board,
    path: Path,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
    tries: int = _TRIES,
) -> Sent:
    """Send a file, going on where it was cut off, and return where it is there.

    Raises ``RemoteError`` when the link was cut ``tries`` times, ``SilentError`` when the board answers nothing, and
    what the board says, as of a full disk.
    """
    digest, size = sha256_file(path), path.stat().st_size
    sent = cuts = 0
    while True:
        try:
            received, count = _send(board, path, digest, size, progress)
            return Sent(received.path, sent + count, cuts)
        except _CutError as cut:
            sent, cuts = sent + cut.count, cuts + 1
            if cuts >= tries:
                raise cut.error from None
            sleep(min(2.0**cuts, 30.0))


class _CutError(Exception):
    def __init__(self, error: RemoteError, count: int) -> None:
        self.error, self.count = error, count


def _send(board: Board, path: Path, digest: str, size: int, progress: Progress) -> tuple[Received, int]:
    """Send what lacks of a file. Raises ``_CutError`` when the link was cut on the way."""
    command = edgepack(board, "receive", "--sha256", digest, "--size", str(size))
    count = 0
    try:
        limit_s = _SILENT_S + size / _SLOWEST_DISK
        with conversation(board, command, limit_s) as (talk, ended), path.open("rb") as file:
            line = talk.line(1000)
            if line:
                offset = _offset(line, size, board)
                file.seek(offset)
                while piece := file.read(_CHUNK_BYTES):
                    talk.say(piece)
                    count += len(piece)
                    progress("send", offset + count, size)
    except SilentError:
        raise
    except RemoteError as error:
        raise _CutError(error, count) from None
    (answer,) = ended
    if answer.code:
        failure = error_of(board, answer)
        if "the sender went away" in failure.message:
            raise _CutError(RemoteError(failure.message, hint=failure.hint), count)
        raise failure
    received = _read(Received, answer.out, board)
    if received.sha256 != digest:
        raise RemoteError(f"{board.host} says that it received a different file", hint="send it again")
    return received, count


def _offset(line: bytes, size: int, board: Board) -> int:
    offset = _json(line, board)
    offset = offset.get("offset") if isinstance(offset, dict) else None
    if type(offset) is not int or not 0 <= offset <= size:
        raise RemoteError(f"{board.host} does not answer as edgepack does: {line[:80]!r}", hint=SAME_VERSION)
    return offset


def _read(kind: type[T], text: bytes, board: Board) -> T:
    data = _json(text, board)
    try:
        found: T = documents.decode(kind, data, board.host)
    except ConfigError as error:
        raise RemoteError(
            f"{board.host} gives an answer that this edgepack cannot read: {error.message[:300]}",
            hint=SAME_VERSION,
        ) from None
    return found


def _json(text: bytes, board: Board) -> Any:
    """Return what a command there printed. Raises ``RemoteError`` where others, as a login shell, print there too."""
    try:
        return documents.read_json(text)
    except ValueError as error:
        said = text.strip()
        shown = said[:60] if not said.startswith(b"{") else said[-60:]
        raise RemoteError(
            f"{board.host} gives an answer that this edgepack cannot read: {error}; it has {shown!r}", hint=_ONLY_ANSWER
        ) from None
