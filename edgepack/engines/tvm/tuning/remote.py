"""Times kernels on another machine through TVM's own RPC server, which is started there over ssh.

The board needs Python with the packages apache-tvm and apache-tvm-ffi of the versions here. The server listens on the
board's loopback address only and is reached through ssh's tunnel; it ends with the connection. TVM's RPC runs whatever
is sent to it, so the server takes nobody without a key of 128 random bits, made for each run and given to it through
ssh's standard input: the other users of either machine see the port, and neither the key nor a command line with it.
What the server answers is only numbers here.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import secrets
import selectors
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.files import scratch_folder
from edgepack.engines.common.linking import link_library
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Workload
from edgepack.engines.tvm.compile import processor_of
from edgepack.engines.tvm.installed import import_tvm
from edgepack.engines.tvm.tuning.timing import NAME, Timed, time_tiles, values
from edgepack.errors import ConfigError, EdgepackError, ToolchainError
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

# A user, a host or an alias of ssh's configuration, a port apart: nothing that ssh could take for an option.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]*")
_PORTS = range(20000, 60000)
_START_S = 60.0
_CALL_S = 600
_END_S = 5.0
_TAIL_CHARACTERS = 500
_CPU_CHARACTERS = 120
_MOST_BYTES, _PIECE_BYTES = 1 << 20, 1 << 16  # of what a board says


# Runs on the board: takes the key from the first line of its standard input, and ends where that ends. TVM imports
# PyTorch wherever it is installed, which takes longer than all the rest.
_SERVER = (
    "import os, sys; key = sys.stdin.readline().strip(); sys.modules['torch'] = None; from tvm import rpc; "
    "server = rpc.Server('127.0.0.1', {port}, port_end={port} + 1, key=key) if key else sys.exit('no key'); "
    "sys.stdin.read(); server.terminate(); os._exit(0)"
)


@dataclass(frozen=True)
class Server:
    """A running RPC server: its port on this machine's loopback address, the board's processor, the key it wants."""

    port: int
    cpu: str
    key: str = field(repr=False)


@contextmanager
def serving(host: str, target: Target, *, ssh: str = "ssh", log: Path) -> Iterator[Server]:
    """Start TVM's RPC server on ``host`` over ssh and yield how to reach it; it ends with the block.

    Raises ``ConfigError`` when the board is not what the target says, ``ToolchainError`` when it cannot be reached or
    lacks TVM.
    """
    if not _HOST.fullmatch(host):
        raise ConfigError(f"{host!r} is not a host for ssh", hint="for example pi@raspberrypi.local")
    cpu = _check_board(host, target, ssh)
    port = random.SystemRandom().choice(_PORTS)
    threads = target.compute.cores or 1
    tunnel = f"127.0.0.1:{port}:127.0.0.1:{port}"
    # What ssh is given is read by the board's shell.
    remote = ["env", f"TVM_NUM_THREADS={threads}", "python3", "-c", shlex.quote(_SERVER.format(port=port))]
    words = [*_words(ssh), "-o", "ExitOnForwardFailure=yes", "-L", tunnel, "--", host, *remote]
    key = secrets.token_hex(16)
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    logged = _Logged(process, log)
    try:
        _tell(process, key)
        _wait(process, host, port, key, log)
        yield Server(port, cpu, key)
    finally:
        _end(process)
        logged.join(_END_S)


def _tell(process: subprocess.Popen[bytes], key: str) -> None:
    """Give the server its key; where ssh ended already, its log says why."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(f"{key}\n".encode())
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End ssh, and with its standard input the server on the board."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_END_S)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _words(ssh: str) -> list[str]:
    return [ssh, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]


def _ask(host: str, ssh: str, *command: str) -> str:
    """Return what a command prints on the board, at most ``_MOST_BYTES``. Raises ``ToolchainError``."""
    try:
        process = subprocess.Popen(
            [*_words(ssh), "--", host, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ToolchainError(f"{ssh} is not installed", hint="install OpenSSH's client") from error
    with process:
        try:
            out, err = _heard(process, host, ssh)
            process.wait(timeout=_START_S)
        finally:
            _end(process)
    if process.returncode:
        words = err.strip()[-_TAIL_CHARACTERS:]
        raise ToolchainError(
            f"ssh {host} {' '.join(command)} failed: {words or f'exit code {process.returncode}'}",
            hint=f"check it with: {ssh} {host}; keys or an agent are needed, passwords are not asked for",
        )
    return out


def _heard(process: subprocess.Popen[bytes], host: str, ssh: str) -> tuple[str, str]:
    """Return all that a process says, and all errors; a board may say anything, for as long as it likes."""
    deadline, kept = time.monotonic() + _START_S, (bytearray(), bytearray())
    with selectors.DefaultSelector() as pipes:
        for stream, heard in zip((process.stdout, process.stderr), kept, strict=True):
            assert stream is not None
            pipes.register(stream, selectors.EVENT_READ, heard)
        while pipes.get_map():
            ready = pipes.select(max(deadline - time.monotonic(), 0.0))
            if not ready or time.monotonic() > deadline:
                raise ToolchainError(f"{host} did not answer in {_START_S:.0f} s", hint=f"check it with: {ssh} {host}")
            for key, _ in ready:
                if piece := os.read(key.fd, _PIECE_BYTES):
                    key.data.extend(piece)
                else:
                    pipes.unregister(key.fileobj)
                if len(key.data) > _MOST_BYTES:
                    raise ToolchainError(
                        f"{host} answers with more than {_MOST_BYTES >> 20} MiB", hint="see whether it is your board"
                    )
    out, err = (bytes(heard).decode(errors="replace") for heard in kept)
    return out, err


class _Logged(threading.Thread):
    """Adds what ssh and the board say to a log: the first of it, as it may go on for as long as the server runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        super().__init__(daemon=True)
        assert process.stdout is not None
        self._stream, self._log = process.stdout, log
        self.start()

    def run(self) -> None:
        """Read to the end."""
        left = _MOST_BYTES
        with self._stream, contextlib.suppress(OSError), self._log.open("ab", buffering=0) as log:
            while piece := os.read(self._stream.fileno(), _PIECE_BYTES):
                log.write(piece[:left])
                left -= len(piece[:left])


def _check_board(host: str, target: Target, ssh: str) -> str:
    """Return the board's processor. Raises ``ConfigError`` when code for the target would not run there."""
    arch = _ask(host, ssh, "uname", "-m").strip()
    if arch != target.arch:
        raise ConfigError(
            f"{host} is {arch[:40]!r}, and {target.id} is {target.arch}", hint="use the board's own target"
        )
    facts: dict[str, str] = {}
    for line in _ask(host, ssh, "cat", "/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    lacking = sorted(set(target.compute.isa) - flags) if flags else []
    if lacking:
        raise ConfigError(
            f"{host} lacks {', '.join(lacking)}, which {target.id} uses", hint="use the board's own target"
        )
    return (facts.get("model name") or facts.get("Model") or arch)[:_CPU_CHARACTERS]


def _wait(process: subprocess.Popen[bytes], host: str, port: int, key: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            _connect(port, key)
        except EdgepackError:
            time.sleep(0.2)
        else:
            return
    tail = log.read_bytes()[-_TAIL_CHARACTERS:].decode(errors="replace").strip() if log.exists() else ""
    raise ToolchainError(
        f"TVM's RPC server did not start on {host}: {tail or 'it said nothing'}",
        hint="install it on the board: python3 -m pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 "
        "cloudpickle tornado psutil",
    )


def _connect(port: int, key: str) -> Any:
    """Return a connection (``tvm.rpc.RPCSession``) that is known to answer. Raises ``ToolchainError``."""
    rpc = import_tvm("tvm.rpc")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass  # TVM itself would try for a minute
        return rpc.connect("127.0.0.1", port, key=key, session_timeout=_CALL_S)
    except Exception as error:  # TVM's errors have no common base
        raise ToolchainError(
            f"TVM's RPC server does not answer: {error}", hint="use the same TVM on the board"
        ) from error


class Board:
    """A machine behind an RPC server: the same library is sent there, and TVM's own evaluator times it."""

    def __init__(self, remote: Any, target: Target, folder: Path) -> None:
        self._remote, self._target, self._folder = remote, target, folder
        self._count = 0

    def load(self, library: Any, shapes: list[tuple[tuple[int, ...], str]], copies: int) -> Callable[[int], float]:  # noqa: ARG002
        """Return a function that calls the kernel so often and returns the nanoseconds of one call.

        All calls read the same weights: the evaluator gives each call the same arguments.
        """
        runtime = import_tvm("tvm.runtime")
        self._count += 1
        path = self._folder / f"kernel{self._count}.so"
        library.export_library(
            str(path),
            workspace_dir=str(self._folder),
            fcompile=lambda out, objects, **_: link_library(
                [Path(item) for item in objects], Path(out), self._target.arch, self._target.engine.glibc
            ),
        )
        self._remote.upload(str(path))
        module = self._remote.load_module(path.name)
        path.unlink()
        device = self._remote.cpu(0)
        arguments = [runtime.tensor(values(shape, dtype), device) for shape, dtype in shapes]

        def run(calls: int) -> float:
            evaluate = module.time_evaluator(NAME, device, number=calls, repeat=1)
            mean_s = float(evaluate(*arguments).mean)
            if not math.isfinite(mean_s) or mean_s <= 0:
                raise EdgepackError("the board reported an invalid time", hint="run again")
            return mean_s * 1e9

        return run


def time_on_board(workload: Workload, tiles: tuple[Blocking, ...], target: Target, server: Server) -> tuple[Timed, ...]:
    """``time_tiles`` on the board behind ``server``; to be called in a child process."""
    remote = _connect(server.port, server.key)
    with scratch_folder("edgepack-tuning-") as scratch:
        return time_tiles(workload, tiles, processor_of(target), Board(remote, target, Path(scratch)))
