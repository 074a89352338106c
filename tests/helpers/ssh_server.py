"""A real OpenSSH server on loopback, its keys and its client's configuration, all in one folder; links that are cut."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
HERE = Path(__file__).resolve().parents[2]

_SERVER = """
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv {environment}
LogLevel ERROR
"""
_CLIENT = """
Host {name}
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  HostKeyAlias {folder_name}
"""


class Server:
    """A running sshd; what logs in has its home, cache and Python path below ``home``."""

    def __init__(self, folder: Path, port: int, address: str = "127.0.0.1") -> None:
        self.folder, self.port, self.address = folder, port, address
        self.home = folder / "home"
        self.config = folder / "config"

    def add_name(self, name: str, port: int | None = None) -> str:
        """Let the client's configuration know the server, perhaps behind another port, by a name; return the name."""
        with self.config.open("a") as file:
            file.write(
                _CLIENT.format(
                    name=name,
                    address=self.address,
                    port=port or self.port,
                    user=getpass.getuser(),
                    folder=self.folder,
                    folder_name="board",
                )
            )
        return name

    @property
    def ssh(self) -> str:
        """Return what ``EDGEPACK_SSH`` is."""
        return f"ssh -F {self.config}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    folder: Path,
    python_path: str | None = None,
    *,
    address: str = "127.0.0.1",
    within: Sequence[str] = (),
    **environment: str,
) -> Iterator[Server]:
    """Run sshd until the block ends, perhaps by a command that puts it elsewhere (``within``)."""
    assert SSHD is not None
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "user_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, capture_output=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Server(folder, free_port(), address)
    server.home.mkdir()
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(sys.executable)
    known = {
        "HOME": server.home, "XDG_CACHE_HOME": server.home / ".cache", "XDG_DATA_HOME": server.home / ".data",
        "XDG_CONFIG_HOME": server.home / ".config", "PYTHONPATH": str(HERE) if python_path is None else python_path,
        "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment,
    }  # fmt: skip
    words = " ".join(f'"{name}={value}"' for name, value in known.items())
    (folder / "sshd_config").write_text(
        _SERVER.format(port=server.port, address=address, folder=folder, environment=words)
    )
    key = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"board {key[0]} {key[1]}\n")
    server.add_name("board")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*within, SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        if within:
            _wait_for_its_process_id(folder, process)
        else:
            _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError((server.folder / "log").read_text())


def _wait_for_its_process_id(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for a server that cannot be reached from here; sshd writes its id once it listens."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / "sshd.pid").exists():
            return
        time.sleep(0.05)
    raise AssertionError((folder / "log").read_text())


class CutLink:
    """A port before another: the first connections are cut once so many bytes went towards the server.

    ``cuts`` are these numbers of bytes, one a connection that carries more than ``least``; later ones are whole.
    ``bytes_per_s`` makes the link slow.
    """

    def __init__(self, port: int, cuts: list[int], bytes_per_s: int | None = None) -> None:
        self.cuts, self.done, self._target, self._rate = list(cuts), 0, port, bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            sent = 0
            while piece := _received(client):
                sent += len(piece)
                if self.cuts and sent > self.cuts[0]:
                    self.cuts.pop(0)
                    self.done += 1
                    _reset(client)
                    _reset(server)
                    break
                with contextlib.suppress(OSError):
                    server.sendall(piece)
                if self._rate:
                    time.sleep(len(piece) / self._rate)
            else:
                with contextlib.suppress(OSError):
                    server.shutdown(socket.SHUT_WR)
                back.join()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(16384)
    except OSError:
        return b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(16384):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    """Close without a goodbye: the other side sees a reset."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.shutdown(socket.SHUT_RD)
