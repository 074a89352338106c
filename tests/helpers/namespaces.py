"""Boards in network namespaces: each has an address, a link and an OpenSSH server of its own, on one kernel and disk.

The links meet at a bridge in a namespace of its own, where the client runs too, so that this machine's network is not
touched. A link can be slow (the kernel's token bucket), down, or lossy: then its packets go through a program that
drops some of them, since not every kernel has netem.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import secrets
import select
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ssh_server import SSHD, Server, serving

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_PACKET = 65536


def why_not() -> str | None:
    """Return why there are no namespaces here; None where there are."""
    if SSHD is None:
        return "sshd is not installed: apt-get install openssh-server"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    name = f"ep{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    try:
        words = ["link", "add", "veth0", "type", "veth", "peer", "name", "veth1"]
        tried = subprocess.run(["ip", "-n", name, *words], capture_output=True, text=True, check=False)
        return f"no virtual links here: {tried.stderr.strip()}" if tried.returncode else None
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


class Net:
    """A bridge in a namespace, and a client's configuration that knows every board behind it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._mark = f"ep{secrets.token_hex(3)}"
        self.hub = self._namespace("hub")
        ip(self.hub, "link", "add", "bridge", "type", "bridge")
        ip(self.hub, "addr", "add", "10.77.0.1/16", "dev", "bridge")
        ip(self.hub, "link", "set", "bridge", "up")
        self.boards: dict[str, Server] = {}
        folder.mkdir(parents=True)
        self.config = folder / "config"
        self.config.write_text("")

    @property
    def ssh(self) -> str:
        """Return what ``EDGEPACK_SSH`` is: the client runs beside the bridge."""
        return f"ip netns exec {self.hub} ssh -F {self.config}"

    def add(self, name: str, *, kbit_per_s: int | None = None, loss: float = 0.0) -> Server:
        """Start a board with a link that may be slow or lose a share of its packets, either way."""
        number = len(self.boards) + 2
        space, address = self._namespace(name), f"10.77.{number // 250}.{number % 250 + 1}"
        if loss:
            self._stack.enter_context(lossy(self.hub, f"v{number}", space, "eth0", loss, seed=number))
        else:
            words = ["link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", space]
            ip(self.hub, *words)
        ip(self.hub, "link", "set", f"v{number}", "master", "bridge", "up")
        ip(space, "addr", "add", f"{address}/16", "dev", "eth0")
        ip(space, "link", "set", "eth0", "up")
        if kbit_per_s:
            bucket = ["tbf", "rate", f"{kbit_per_s}kbit", "burst", "5kb", "latency", "2s"]
            for where, link in ((self.hub, f"v{number}"), (space, "eth0")):
                subprocess.run(["tc", "-n", where, "qdisc", "add", "dev", link, "root", *bucket], check=True)
        within = ["ip", "netns", "exec", space]
        server = self._stack.enter_context(serving(self.folder / name, within=within, address=address))
        self.boards[name] = server
        text = server.config.read_text().replace("Host board\n", f"Host {name}\n")
        with self.config.open("a") as file:
            file.write(text)
        return server

    def link(self, name: str, state: str) -> None:
        """Set a board's link up or down, at the bridge's end."""
        ip(self.hub, "link", "set", f"v{list(self.boards).index(name) + 2}", state)

    def up(self, name: str) -> None:
        """Set a board's own end of its link up again."""
        ip(f"{self._mark}-{name}", "link", "set", "eth0", "up")

    def _namespace(self, name: str) -> str:
        space = f"{self._mark}-{name}"
        subprocess.run(["ip", "netns", "add", space], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", space], check=False)
        ip(space, "link", "set", "lo", "up")
        return space


def ip(space: str, *words: str) -> None:
    """Run ``ip`` in a namespace."""
    subprocess.run(["ip", "-n", space, *words], check=True)


@contextlib.contextmanager
def lossy(space: str, link: str, other: str, other_link: str, loss: float, seed: int) -> Iterator[None]:
    """Join two namespaces by a link that drops a share of the Ethernet frames, each way, by a seed."""
    ends = (_tap(space, link), _tap(other, other_link))
    stop, wake = os.pipe()
    thread = threading.Thread(target=_forward, args=(ends, stop, loss, random.Random(seed)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(wake)
        thread.join()
        for handle in (*ends, stop):
            os.close(handle)


def _tap(space: str, link: str) -> int:
    """Make an interface whose frames are read and written here."""
    made: list[int] = []

    def make() -> None:  # in a thread, because a namespace is a thread's
        with Path(f"/run/netns/{space}").open("rb") as file:
            _setns(file.fileno())
        handle = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH22x", link.encode(), _IFF_TAP | _IFF_NO_PI))
        made.append(handle)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _setns(handle: int) -> None:
    """Put this thread into a namespace; Python has ``os.setns`` from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _forward(ends: tuple[int, int], stop: int, loss: float, dice: random.Random) -> None:
    while True:
        ready, _, _ = select.select([*ends, stop], [], [])
        if stop in ready:
            return
        for handle in ready:
            try:
                frame = os.read(handle, _PACKET)
                if dice.random() >= loss:
                    os.write(ends[1 - ends.index(handle)], frame)
            except OSError:
                continue  # the other end is down
