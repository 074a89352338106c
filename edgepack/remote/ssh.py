"""One machine over ssh, by OpenSSH's own client: the user's configuration, keys, agent and jump hosts hold.

Host keys are always checked: one that is not known is an error, whatever the configuration says. Nothing is asked for.
``EDGEPACK_SSH`` names another program or gives it options, as ``ssh -F config``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from edgepack.errors import ConfigError, RemoteError, ToolchainError

VARIABLE = "EDGEPACK_SSH"
_FAILED = 255  # ssh's own exit code; the remote command's otherwise
# A user, a host or an alias of ssh's configuration: nothing that ssh could take for an option.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_\[][A-Za-z0-9_.:\]-]*")
_ALIVE_S, _ALIVE_COUNT = 10, 3  # a link that is silent for half a minute is cut
_TAIL_CHARACTERS = 4000
_MOST_ANSWER_BYTES = 64 << 20
_MOST_WORDS_BYTES = 64 << 10  # of stderr, whose end is told
_PIECE_BYTES = 64 << 10
_LAST_WORDS_S = 10.0  # stderr ends with ssh, unless something that it started keeps it open
_MOST_HOST = 240  # characters: files are named by it
# Where --bootstrap puts edgepack; the Python that is used where nothing else is said.
SITE = "${XDG_DATA_HOME:-$HOME/.local/share}/edgepack/site"
# Answers and names are UTF-8, whatever the locale there.
_SCRIPT = (
    "PYTHONUTF8=1 PYTHONIOENCODING=utf-8; export PYTHONUTF8 PYTHONIOENCODING; "
    f'site="{SITE}"; if [ -d "$site" ]; then PYTHONPATH="$site${{PYTHONPATH:+:$PYTHONPATH}}"; export PYTHONPATH; fi; '
    'exec "$0" "$@"'
)


class SilentError(RemoteError):
    """A machine that is reached answers nothing: asking again would wait as long."""


@dataclass(frozen=True)
class Board:
    """A machine: its name for ssh (``user@host`` or an alias) and its Python."""

    host: str
    python: str = "python3"

    def __post_init__(self) -> None:
        check_host(self.host)


def check_host(host: str) -> None:
    """Raise ``ConfigError`` for what is not a host, or could be taken for something else by ssh."""
    if len(host) > _MOST_HOST or not _HOST.fullmatch(host):
        raise ConfigError(f"{host[:80]!r} is not a host for ssh", hint="for example pi@raspberrypi.local")


@dataclass(frozen=True)
class Answer:
    """What a command said: its exit code, stdout, and the end of stderr."""

    code: int
    out: bytes
    err: str


def python(board: Board, *words: str) -> list[str]:
    """Return the command that runs the board's Python, with what was bootstrapped there."""
    return ["sh", "-c", _SCRIPT, board.python, *words]


def edgepack(board: Board, *words: str) -> list[str]:
    """Return the command that runs edgepack on the board."""
    return python(board, "-m", "edgepack", *words)


def ask(board: Board, command: Sequence[str], limit_s: float, stdin: IO[bytes] | None = None) -> Answer:
    """Run a command on the board to its end. Raises ``RemoteError`` when it is not reached or takes too long."""
    deadline = time.monotonic() + limit_s
    with _process(board, command, stdin) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = _Said(process, process.stdout), _Said(process, process.stderr, tail=True)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        for said in (out, err):
            said.join(max(deadline - time.monotonic(), 0.0))
        if process.poll() is None or out.is_alive() or err.is_alive():
            raise RemoteError(
                f"{board.host} did not finish in {limit_s:.0f} s: {' '.join(command)[-200:]}", hint="allow more time"
            )
    _refuse_long(board, out)
    return _answer(board, process.returncode, bytes(out.kept), bytes(err.kept))


class _Said(threading.Thread):
    """Reads what a process says: no more than ``_MOST_ANSWER_BYTES``, with which it is ended, or the last of it."""

    def __init__(self, process: subprocess.Popen[bytes], stream: IO[bytes], *, tail: bool = False) -> None:
        super().__init__(daemon=True)
        self.kept = bytearray()
        self.is_long = False
        self._process, self._stream, self._tail = process, stream, tail
        self.start()

    def run(self) -> None:
        """Read to the end."""
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile: nobody asks any more
            while piece := os.read(self._stream.fileno(), _PIECE_BYTES):
                self.kept += piece
                if self._tail:
                    del self.kept[:-_MOST_WORDS_BYTES]
                elif len(self.kept) > _MOST_ANSWER_BYTES:
                    self.is_long = True
                    self._process.kill()
                    return


def _refuse_long(board: Board, said: _Said) -> None:
    if said.is_long:
        raise RemoteError(
            f"{board.host} answers with more than {_MOST_ANSWER_BYTES >> 20} MiB", hint="see whether it is your board"
        )


class Talk:
    """What is said to a command and heard from it. Each part waits for ``limit_s`` at most, whoever holds its pipes."""

    def __init__(self, board: Board, process: subprocess.Popen[bytes], limit_s: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._board, self._to, self._back, self._limit_s = board, process.stdin, process.stdout, limit_s
        os.set_blocking(self._to.fileno(), False)
        self._heard = bytearray()

    def say(self, data: bytes) -> None:
        """Send bytes. Raises ``BrokenPipeError`` when the command has ended, ``SilentError`` when it does not read."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece, deadline = memoryview(data)[start : start + _PIECE_BYTES], self._deadline()
            while piece:
                self._wait(self._to, select.POLLOUT, deadline)
                piece = piece[os.write(self._to.fileno(), piece) :]

    def line(self, most: int) -> bytes:
        """Return a line that it says, or ``most`` bytes of it; less, or nothing, at the end."""
        deadline = self._deadline()
        while b"\n" not in self._heard and len(self._heard) < most and self._hear(deadline):
            pass
        end = min(self._heard.find(b"\n") + 1 or len(self._heard), most)
        found = bytes(self._heard[:end])
        del self._heard[:end]
        return found

    def rest(self) -> bytes:
        """Say that no more comes, and return what else it says: no more than is taken of any answer."""
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        deadline = self._deadline()
        while len(self._heard) <= _MOST_ANSWER_BYTES and self._hear(deadline):
            pass
        return bytes(self._heard)

    def silent(self) -> SilentError:
        """Return the error of a board that answers nothing."""
        return SilentError(
            f"{self._board.host} was silent for {self._limit_s:.0f} s",
            hint="see what keeps the board busy, such as a full or failing disk; then run the same command again",
        )

    def _hear(self, deadline: float) -> bool:
        self._wait(self._back, select.POLLIN, deadline)
        piece = os.read(self._back.fileno(), _PIECE_BYTES)
        self._heard += piece
        return bool(piece)

    def _deadline(self) -> float:
        return time.monotonic() + self._limit_s

    def _wait(self, stream: IO[bytes], event: int, deadline: float) -> None:
        ready = select.poll()
        ready.register(stream.fileno(), event)
        if not ready.poll(max(deadline - time.monotonic(), 0.0) * 1000):
            raise self.silent()


@contextmanager
def conversation(board: Board, command: Sequence[str], limit_s: float) -> Iterator[tuple[Talk, list[Answer]]]:
    """Run a command and talk with it; its answer stands in the list when the block is done.

    Raises ``RemoteError`` when the link was cut, ``SilentError`` when nothing was heard for ``limit_s``.
    """
    ended: list[Answer] = []
    with _process(board, command, subprocess.PIPE) as process:
        assert process.stderr is not None
        words, talk = _Said(process, process.stderr, tail=True), Talk(board, process, limit_s)
        try:
            yield talk, ended
        except BrokenPipeError:
            pass  # its words say why it went
        rest = talk.rest()
        if len(rest) > _MOST_ANSWER_BYTES:
            process.kill()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise talk.silent() from None
        words.join(_LAST_WORDS_S)
        ended.append(_answer(board, process.returncode, rest, bytes(words.kept)))


def program() -> list[str]:
    """Return ssh and the options that are always given to it."""
    return [
        *(shlex.split(os.environ.get(VARIABLE, "")) or ["ssh"]),
        "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15",
        "-o", f"ServerAliveInterval={_ALIVE_S}", "-o", f"ServerAliveCountMax={_ALIVE_COUNT}",
    ]  # fmt: skip


@contextmanager
def _process(board: Board, command: Sequence[str], stdin: IO[bytes] | int | None) -> Iterator[subprocess.Popen[bytes]]:
    words = [*program(), "--", board.host, shlex.join(command)]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL if stdin is None else stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise ToolchainError(f"{words[0]} cannot be run: {error.strerror}", hint="install OpenSSH's client") from None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


def _answer(board: Board, code: int, out: bytes, err: bytes) -> Answer:
    said = err.decode(errors="replace").strip()[-_TAIL_CHARACTERS:]
    if code == _FAILED or code < 0:
        raise RemoteError(f"{board.host}: {said or 'the link was cut'}")
    return Answer(code, out, said)
