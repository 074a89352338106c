"""40 boards in network namespaces on this machine, with dead, slow and lying ones; and a link that loses packets.

``make test-device`` runs them, as root: each board has a link, an address and an OpenSSH server of its own, and shares
kernel, disk and processor with the others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from namespaces import Net, why_not
from program import main
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.remote.commands import send
from edgepack.remote.ssh import Board
from edgepack.runtime.root import status

pytestmark = [pytest.mark.long, pytest.mark.own, pytest.mark.timeout(3600)]

COUNT = 40
DEAD_LINK, DEAD_SERVER, DIES = "b07", "b12", "b21"
SLOW, KBIT_PER_S = ("b09", "b15"), 48
LIAR = "b18"
# What a board's Python is: one that lies about what it installed, and one whose link goes down as it installs.
_PYTHON = """#!/bin/sh
cd "$HOME" || exit 1
if [ -e lies ] && [ "$3" = install ]; then
  {python} "$@" | sed 's/"sha256": "[0-9a-f]*"/"sha256": "{zeros}"/'
elif [ -e dies ] && [ "$3" = install ]; then
  rm dies
  ip link set dev eth0 down
  exec {python} "$@"
else
  exec {python} "$@"
fi
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        made = Net(tmp_path / "boards", stack)
        monkeypatch.setenv("EDGEPACK_SSH", made.ssh)
        monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
        yield made


def test_a_wave_with_dead_slow_and_lying_boards_ends_in_one_table(
    net: Net, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"b{i:02}" for i in range(COUNT)]
    for name in names:
        net.add(name, kbit_per_s=KBIT_PER_S if name in SLOW else None)
    net.link(DEAD_LINK, "down")
    stop(net, DEAD_SERVER)
    (net.boards[DIES].home / "dies").write_text("")
    (net.boards[LIAR].home / "lies").write_text("")
    bundle = small_bundle(tmp_path, 200, version="1")
    path = fleet(tmp_path, names)

    code = main(["deploy", str(bundle), str(path), "-o", str(tmp_path / "out")])
    said = capsys.readouterr().out
    with capsys.disabled():
        print(said)
    rows = {row["host"]: row for row in json.loads((tmp_path / "out" / "deploy.json").read_text())["rows"]}
    bad = {DEAD_LINK, DEAD_SERVER, DIES, LIAR}
    assert code == 1
    assert list(rows) == names, "one row each, in order"
    assert all(re.search(rf"\b{name}\b", said) for name in names)
    assert Counter(row["status"] for row in rows.values()) == {"ok": 28, "failed": 4, "skipped": 8}
    assert {name for name, row in rows.items() if row["status"] == "failed"} == bad
    assert {name for name, row in rows.items() if row["status"] == "skipped"} == set(names[32:])
    assert "timed out" in rows[DEAD_LINK]["reason"] or "No route" in rows[DEAD_LINK]["reason"]
    assert "refused" in rows[DEAD_SERVER]["reason"]
    assert "installed a different file" in rows[LIAR]["reason"]
    assert rows[DIES]["reason"]
    for name in SLOW:  # as long as the link needs for what was sent, at least
        assert rows[name]["took_ns"] > 0.8e9 * rows[name]["sent_bytes"] * 8 / (KBIT_PER_S * 1000) > 6e9
    wanted = open_bundle(bundle).sha256
    assert all(installed(net, name) == wanted for name in names[:32] if name not in (DEAD_LINK, DEAD_SERVER, DIES))
    assert all(installed(net, name) is None for name in names[32:])

    # What was dead is back, and the liar tells the truth: the same command goes on where it was.
    net.link(DEAD_LINK, "up")
    net.up(DIES)
    (net.boards[LIAR].home / "lies").unlink()
    main(["deploy", str(bundle), str(path), "-o", str(tmp_path / "again")])
    capsys.readouterr()
    rows = {row["host"]: row for row in json.loads((tmp_path / "again" / "deploy.json").read_text())["rows"]}
    assert [name for name in names if rows[name]["status"] not in ("ok", "already")] == [DEAD_SERVER]
    assert sum(row["status"] == "already" for row in rows.values()) >= 29
    assert all(installed(net, name) == wanted for name in names if name != DEAD_SERVER)


@pytest.mark.parametrize("loss", [0.05, 0.2])
def test_a_file_arrives_whole_over_a_link_that_loses_packets(net: Net, tmp_path: Path, loss: float) -> None:
    net.add("board", loss=loss)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4000)
    found = send(Board("board", sys.executable), path)
    print(f"{loss:.0%} of the packets lost: {found.sent_bytes} bytes sent, cut {found.cuts} times")
    assert Path(found.path).read_bytes() == path.read_bytes()


def fleet(folder: Path, names: list[str]) -> Path:
    """Two canaries; 30 boards of which three may fail; 8 that are last."""
    python = folder / "python"
    python.write_text(_PYTHON.format(python=sys.executable, zeros="0" * 64))
    python.chmod(0o755)
    groups = {"canary": names[:2], "most": names[2:32], "last": names[32:]}
    path = folder / "fleet.toml"
    path.write_text(
        f"python = '{python}'\nparallel = 8\nduration = '0s'\n"
        "waves = [{groups = ['canary']}, {groups = ['most'], most_failed = 3}, {groups = ['last']}]\n[groups]\n"
        + "".join(f"{name} = {json.dumps(hosts)}\n" for name, hosts in groups.items())
    )
    return path


def stop(net: Net, name: str) -> None:
    """End a board's server; the board is still there."""
    os.kill(int((net.boards[name].folder / "sshd.pid").read_text()), signal.SIGTERM)


def installed(net: Net, name: str) -> str | None:
    root = net.boards[name].home / "edgepack"
    if not root.exists():
        return None
    found = status(root)
    assert found.problem is None
    return found.current.sha256 if found.current else None
