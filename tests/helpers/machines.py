"""Machines made of Linux namespaces: each with its own address, host name, home and disk, all behind one switch.

They share this machine's kernel, clock and processor. Needs root and ``ip``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# What a machine sees of itself: its own name, and its own start, by which edgepack tells machines apart.
_BEGIN = "hostname {name}; mount --bind {boot} /proc/sys/kernel/random/boot_id; {mounts} exec bash -e -c {line}"


@dataclass
class Machine:
    """One machine; ``own`` is its disk, ``mounts`` says at which places it is seen, by folders of it."""

    name: str
    address: str
    space: str
    own: Path
    mounts: Mapping[Path, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, script: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a script of bash in a folder."""
        mounts = "".join(f"mount --bind {self.own / name} {place}; " for place, name in self.mounts.items())
        begin = _BEGIN.format(
            name=self.name, boot=self.own / "boot_id", mounts=mounts + f"cd {folder};", line=shlex.quote(script)
        )
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.own / "home"),
            "EDGEPACK_STORE_CACHE": str(self.own / "home" / "store-cache"),
            "LANG": "C.UTF-8",
        }
        words = ["ip", "netns", "exec", self.space, "unshare", "--uts", "--mount", "sh", "-e", "-c", begin]
        with log.open("ab") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True)
        self.started.append(process)
        return process

    def unplug(self) -> None:
        """Let the machine's cable go: nothing arrives any more, and nobody is told."""
        _ip(f"-n {self.space} link set eth0 down")


def available() -> bool:
    """Say whether such machines can be made here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "mount"))):
        return False
    name = f"ep-{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        linked = subprocess.run(
            ["ip", "-n", name, "link", "add", "p0", "type", "veth", "peer", "name", "p1"],
            capture_output=True,
            check=False,
        )
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        return linked.returncode == 0
    return False


@contextlib.contextmanager
def machines(addresses: Sequence[str], disks: Path, mounts: Mapping[Path, str]) -> Iterator[dict[str, Machine]]:
    """Yield machines by their addresses; end what runs on them, and remove them."""
    tag = uuid.uuid4().hex[:6]
    switch, found = f"ep-{tag}-switch", dict[str, Machine]()
    try:
        _ip(f"netns add {switch}")
        _ip(f"-n {switch} link add br0 type bridge")
        _ip(f"-n {switch} link set br0 up")
        for number, address in enumerate(addresses):
            space, own = f"ep-{tag}-{number}", disks / address
            for name in ("home", *mounts.values()):
                (own / name).mkdir(parents=True)
            (own / "boot_id").write_text(f"{uuid.uuid4()}\n")
            found[address] = Machine(f"machine{number}", address, space, own, mounts)
            _ip(f"netns add {space}")
            _ip(f"-n {switch} link add p{number} type veth peer name eth0 netns {space}")
            _ip(f"-n {switch} link set p{number} master br0 up")
            _ip(f"-n {space} addr add {address}/24 dev eth0")
            _ip(f"-n {space} link set eth0 up")
            _ip(f"-n {space} link set lo up")
        yield found
    finally:
        for machine in found.values():
            _end(machine)
        for space in (*(machine.space for machine in found.values()), switch):
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def _end(machine: Machine) -> None:
    """End what runs on a machine."""
    pids = subprocess.run(["ip", "netns", "pids", machine.space], capture_output=True, text=True, check=False).stdout
    for pid in pids.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    for process in machine.started:
        process.wait()


def _ip(line: str) -> None:
    subprocess.run(["ip", *line.split()], check=True, capture_output=True)
