"""One machine over ssh, by OpenSSH's own client: the user's configuration, keys, agent and jump hosts hold.

Host keys are always checked: one that is not known is an error, whatever the configuration says. Nothing is asked for.
``EDGEPACK_SSH`` names another program or gives it options, as ``ssh -F config``.
"""

from __future__ import annotations

import contextlib
import os
import re
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
# Where --bootstrap puts edgepack; the Python that is used where nothing else is said.
SITE = "${XDG_DATA_HOME:-$HOME/.local/share}/edgepack/site"
_SCRIPT = (
    f'site="{SITE}"; if [ -d "$site" ]; then PYTHONPATH="$site${{PYTHONPATH:+:$PYTHONPATH}}"; export PYTHONPATH; fi; '
    'exec "$0" "$@"'
)


@dataclass(frozen=True)
class Board:
    """A machine: its name for ssh (``user@host`` or an alias) and its Python."""

    host: str
    python: str = "python3"

    def __post_init__(self) -> None:
        check_host(self.host)


def check_host(host: str) -> None:
    """Raise ``ConfigError`` for what is no host, or could be taken for something else by ssh."""
    if not _HOST.fullmatch(host):
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


@contextmanager
def conversation(board: Board, command: Sequence[str]) -> Iterator[tuple[IO[bytes], IO[bytes], list[Answer]]]:
    """Run a command and give its stdin and stdout; its answer stands in the list when the block is done.

    Raises ``RemoteError`` when the link was cut.
    """
    ended: list[Answer] = []
    with _process(board, command, subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        words = _Said(process, process.stderr, tail=True)
        try:
            yield process.stdin, process.stdout, ended
        except BrokenPipeError:
            pass  # its words say why it went
        finally:
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
        rest = process.stdout.read(_MOST_ANSWER_BYTES)
        if len(rest) == _MOST_ANSWER_BYTES:
            process.kill()
        process.wait()
        words.join()
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
