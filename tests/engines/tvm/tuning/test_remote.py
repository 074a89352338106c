"""Measuring on another machine: TVM's own RPC server, started by a stand-in for ssh that runs commands on this host.

The stand-in is a script that checks what ssh would be told and runs the remote command here; the server, the upload and
the timing are real. No second machine is involved.
"""

from __future__ import annotations

import dataclasses
import socket
import sys
import time
from pathlib import Path

import pytest
from tuning_cases import POINTWISE

from edgepack.device.host import host_facts
from edgepack.engines.targets import load_target
from edgepack.engines.tvm.codegen.workload import rule, tiles
from edgepack.engines.tvm.compile import processor_of
from edgepack.engines.tvm.tuning.remote import serving, time_on_board
from edgepack.engines.tvm.tuning.timing import ROUNDS
from edgepack.errors import ConfigError, ToolchainError
from edgepack.execution import child
from edgepack.specs.target import Target

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("needs_tvm")]
STAND_IN = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
with open({seen!r}, "a") as file:
    print(" ".join(words), file=file)
place = words.index("--")
host, command = words[place + 1], words[place + 2:]
if host == "nowhere":
    print("ssh: Could not resolve hostname nowhere", file=sys.stderr)
    sys.exit(255)
if host == "talker":  # as long as anybody listens
    if command[0] != "env":
        sys.stdout.write("x" * 10_000_000) if command[0] == "uname" else sys.stderr.write("x" * 10_000_000)
    sys.exit(0)
if host == "late-talker" and command[0] == "env":
    sys.stdout.write("x" * 5_000_000)
    sys.exit(3)
if command[0] == "uname":
    print({arch!r})
elif command[0] == "cat":
    print({cpuinfo!r})
elif host == "without-tvm":
    print("No module named tvm", file=sys.stderr)
    sys.exit(1)
else:
    command = [sys.executable if word == "python3" else word for word in command]
    os.execvp("sh", ["sh", "-c", " ".join(command)])  # as sshd does
"""


def target() -> Target:
    found = load_target("host-tvm")
    return dataclasses.replace(found, compute=dataclasses.replace(found.compute, cores=1))


def stand_in(folder: Path, arch: str | None = None, flags: str | None = None) -> str:
    """Write the stand-in for ssh; the board it pretends to reach has this host's processor unless told otherwise."""
    host = host_facts()
    cpuinfo = f"processor : 0\nmodel name : A board's CPU\nflags : {' '.join(host.isa) if flags is None else flags}\n"
    path = folder / "ssh"
    text = STAND_IN.format(python=sys.executable, seen=str(folder / "seen"), arch=arch or host.arch, cpuinfo=cpuinfo)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def nobody_listens(port: int) -> bool:
    """Say whether a port is refused; Linux may also connect a socket with itself, where the two ports are the same."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return bool(connection.getsockname() == connection.getpeername())
    except OSError:
        return True


def test_kernels_are_timed_on_a_board(tmp_path: Path) -> None:
    of, ssh, log = target(), stand_in(tmp_path), tmp_path / "log"
    machine = processor_of(of)
    listed = (rule(POINTWISE, machine), *tiles(POINTWISE, machine)[:2])
    with serving("user@board", of, ssh=ssh, log=log) as server:
        assert server.cpu == "A board's CPU"
        timed = child.call(time_on_board, POINTWISE, listed, of, server, limit_s=120, log=tmp_path / "child")
    assert [len(t.ns) for t in timed] == [ROUNDS] * 3
    assert all(1e4 < ns < 1e9 for t in timed for ns in t.ns)
    last = (tmp_path / "seen").read_text().splitlines()[-1]
    assert "BatchMode=yes" in last
    assert f"127.0.0.1:{server.port}:127.0.0.1:{server.port} -- user@board env TVM_NUM_THREADS=1 python3" in last
    assert "rpc.Server(" in last
    assert server.key not in (tmp_path / "seen").read_text()
    assert server.key not in repr(server)
    end = time.monotonic() + 10  # a server that was killed may take a moment to go
    while not nobody_listens(server.port):
        assert time.monotonic() < end, "the server is still there"
        time.sleep(0.05)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a b", "a;b", "$(x)", "--", "a\nb"])
def test_what_is_no_host_never_reaches_ssh(tmp_path: Path, host: str) -> None:
    with (
        pytest.raises(ConfigError, match="not a host for ssh"),
        serving(host, target(), ssh=stand_in(tmp_path), log=tmp_path / "log"),
    ):
        pass
    assert not (tmp_path / "seen").exists()


def test_a_board_of_another_kind_is_refused(tmp_path: Path) -> None:
    ssh = stand_in(tmp_path, arch="armv7l")
    with pytest.raises(ConfigError, match="is 'armv7l'"), serving("board", target(), ssh=ssh, log=tmp_path / "log"):
        pass


def test_a_board_without_an_instruction_is_refused(tmp_path: Path) -> None:
    ssh = stand_in(tmp_path, flags="fpu sse sse2")
    with pytest.raises(ConfigError, match=r"lacks .*avx2"), serving("board", target(), ssh=ssh, log=tmp_path / "log"):
        pass


@pytest.mark.parametrize(
    ("host", "words"),
    [("nowhere", "Could not resolve hostname"), ("without-tvm", "No module named tvm")],
)
def test_a_board_that_cannot_be_used_is_said_with_its_words(tmp_path: Path, host: str, words: str) -> None:
    ssh = stand_in(tmp_path)
    with pytest.raises(ToolchainError, match=words) as caught, serving(host, target(), ssh=ssh, log=tmp_path / "log"):
        pass
    assert caught.value.hint


def test_a_board_that_says_too_much_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ToolchainError, match="talker answers with more than 1 MiB"),
        serving("talker", target(), ssh=stand_in(tmp_path), log=tmp_path / "log"),
    ):
        pass


def test_what_a_server_says_does_not_fill_the_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(ToolchainError, match="TVM's RPC server did not start on late-talker: xxx"),
        serving("late-talker", target(), ssh=stand_in(tmp_path), log=tmp_path / "log"),
    ):
        pass
    assert (tmp_path / "log").stat().st_size == 1 << 20


def test_without_ssh_it_says_what_to_install(tmp_path: Path) -> None:
    with (
        pytest.raises(ToolchainError, match="is not installed"),
        serving("board", target(), ssh=str(tmp_path / "none"), log=tmp_path / "log"),
    ):
        pass


def test_a_server_that_ends_while_it_measures_is_an_error(tmp_path: Path) -> None:
    of, ssh = target(), stand_in(tmp_path)
    machine = processor_of(of)
    with serving("board", of, ssh=ssh, log=tmp_path / "log") as server:
        pass
    with pytest.raises(ToolchainError, match="does not answer"):
        child.call(
            time_on_board, POINTWISE, (rule(POINTWISE, machine),), of, server, limit_s=60, log=tmp_path / "child"
        )


def test_other_users_of_the_machine_get_nothing_from_the_server(tmp_path: Path) -> None:
    """Whoever reaches the port without the key is turned away before anything is run, and sees it nowhere."""
    from tvm import rpc

    with serving("board", target(), ssh=stand_in(tmp_path), log=tmp_path / "log") as server:
        for key in ("", "guess", server.key[:-1], server.key.upper() + "0"):
            with pytest.raises(RuntimeError, match=r"(?i)mismatch|cannot find"):
                rpc.connect("127.0.0.1", server.port, key=key, session_timeout=5)
        assert rpc.connect("127.0.0.1", server.port, key=server.key, session_timeout=5) is not None
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(server.key.encode() in line for line in lines)
