"""Fleets on real OpenSSH servers: waves; boards that are dead, slow, ill, late or lie; a second try."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from made_up import result
from program import main
from small_bundles import small_bundle
from ssh_server import SSHD, CutLink, Server, free_port, serving

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError
from edgepack.remote import ssh
from edgepack.remote.fleet import ROWS, BoardRow, Deployment, Fleet, _write, deploy_fleet, read_fleet, result_name
from edgepack.runtime.root import status
from edgepack.specs.result import Result

GOOD = """
parallel = 3
duration = "0s"
[groups]
canary = ["a"]
rest = ["b", "c"]
"""


def fleet(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the key 'groups' is missing"),
        ("[groups]\n", "there is no host"),
        ("[groups]\na = ['x y']\n", "is not a host for ssh"),
        ("[groups]\na = ['-oProxyCommand=x']\n", "is not a host for ssh"),
        ("[groups]\na = ['x']\nb = ['x']\n", "x is deployed to twice"),
        ("waves = [{groups = ['canery']}]\n[groups]\ncanary = ['x']\n", "no group 'canery'; did you mean 'canary'"),
        ("parallel = 0\n[groups]\na = ['x']\n", "parallel: from 1 to 64"),
        ("p90 = 'fast'\n[groups]\na = ['x']\n", "p90: 'fast' is not a duration"),
        ("healt = 'true'\n[groups]\na = ['x']\n", "did you mean 'health'"),
        ("waves = [{groups = ['a'], most_failed = -1}]\n[groups]\na = ['x']\n", "most_failed"),
        ("[groups", "not valid TOML"),
        ("\xff", "not valid TOML"),
    ],
)
def test_a_fleet_that_cannot_be_meant_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        read_fleet(path)
    assert words in f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize("option", ["--root=x", "--python=x", "--bootstrap", "--again", "--health=x", "--window=1s"])
def test_options_for_one_machine_are_refused(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "net.edgepack", str(fleet(tmp_path, GOOD)), option]) == 2
    assert f"{option.partition('=')[0]} is for one machine" in capsys.readouterr().err


def test_without_waves_every_group_is_one(tmp_path: Path) -> None:
    from edgepack.remote.fleet import waves_of

    found = waves_of(read_fleet(fleet(tmp_path, GOOD)))
    assert [hosts for _, hosts in found] == [("a",), ("b", "c")]


def test_every_host_has_a_file_of_its_own(tmp_path: Path) -> None:
    """``pi@a`` and ``pi_a`` were one file, and the host ``deploy`` was the file of the rows."""
    hosts = ["pi@a", "pi_a", "pi.a", "pi-a", "[fe80::1]", "fe80::1", "fe80:_1", "_fe80::1_", "deploy", "deploy@x", "a"]
    for host in hosts:
        ssh.check_host(host)
    names = {result_name(host) for host in hosts}
    assert len(names) == len(hosts)
    assert not names & {ROWS, "report.html"}
    assert {"pi@a.json", "pi_a.json", "a.json"} <= names
    results = {host: result(bundle_name=host) for host in hosts}
    rows = tuple(BoardRow(host, 1, "ok") for host in hosts)
    _write(Deployment("x", "0" * 64, rows, results=results), tmp_path)
    written = {
        documents.from_json(Result, p.read_text(), "x").bundle_name for p in tmp_path.iterdir() if p.name != ROWS
    }
    assert written == set(hosts)
    assert len(json.loads((tmp_path / ROWS).read_text())["rows"]) == len(hosts)


# --- real servers -----------------------------------------------------------------------------------------------------

WRAPPER = """#!/bin/sh
cd "$HOME" || exit 1
if [ -e lies ] && [ "$3" = install ]; then
  {python} "$@" | sed 's/"sha256": "[0-9a-f]*"/"sha256": "{zeros}"/'
else
  exec {python} "$@"
fi
"""


class Boards:
    """Several servers, each with a home of its own, and one client's configuration that knows them all."""

    def __init__(self, folder: Path, names: tuple[str, ...], stack: ExitStack) -> None:
        self.folder = folder
        self.servers: dict[str, Server] = {}
        for name in names:
            self.servers[name] = stack.enter_context(serving(folder / name))
        config = []
        for name, server in self.servers.items():
            text = server.config.read_text().replace("Host board\n", f"Host {name}\n")
            config.append(text)
        (folder / "config").write_text("".join(config))
        self.python = folder / "python"
        self.python.write_text(WRAPPER.format(python=sys.executable, zeros="0" * 64))
        self.python.chmod(0o755)

    def home(self, name: str) -> Path:
        return self.servers[name].home

    def through(self, name: str, port: int) -> None:
        """Let the client reach a server at another port."""
        text = (self.folder / "config").read_text()
        (self.folder / "config").write_text(text.replace(f"Port {self.servers[name].port}\n", f"Port {port}\n"))

    def version(self, name: str) -> str | None:
        root = self.home(name) / "edgepack"
        if not root.exists():
            return None
        found = status(root)
        assert found.problem is None
        return found.current.version if found.current else None


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Boards]:
    if SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    with ExitStack() as stack:
        made = Boards(tmp_path / "boards", ("a", "b", "c", "d"), stack)
        monkeypatch.setenv("EDGEPACK_SSH", f"ssh -F {tmp_path}/boards/config")
        monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
        yield made


def of(boards: Boards, folder: Path, more: str = "", groups: str = "canary = ['a']\nrest = ['b', 'c', 'd']\n") -> Path:
    return fleet(folder, f"python = '{boards.python}'\nduration = '0s'\n{more}\n[groups]\n{groups}")


@pytest.mark.slow
def test_dead_slow_and_lying_boards_are_one_row_each(boards: Boards, tmp_path: Path) -> None:
    slow = CutLink(boards.servers["d"].port, [], bytes_per_s=200_000)
    boards.through("d", slow.port)
    boards.through("b", free_port())
    (boards.home("c") / "lies").write_text("")
    found = deploy_fleet(small_bundle(tmp_path, 4, version="1"), read_fleet(of(boards, tmp_path)))
    slow.close()
    rows = {row.host: row for row in found.rows}
    assert {name: row.status for name, row in rows.items()} == {"a": "ok", "b": "failed", "c": "failed", "d": "ok"}
    assert "refused" in str(rows["b"].reason)
    assert "installed a different file" in str(rows["c"].reason)
    assert found.stopped == "wave 2 stopped: 2 of 3 boards failed (b, c)"
    assert (boards.version("a"), boards.version("d")) == ("1", "1")


@pytest.mark.slow
def test_a_bad_canary_stops_the_rest_and_a_second_try_goes_on(boards: Boards, tmp_path: Path) -> None:
    path = of(boards, tmp_path, "health = 'test -e healthy'\nwindow = '100ms'")
    one = small_bundle(tmp_path / "1", 4, version="1")
    found = deploy_fleet(one, read_fleet(path), tmp_path / "out")
    assert [row.status for row in found.rows] == ["failed", "skipped", "skipped", "skipped"]
    assert "is not healthy: the health command ended with 1" in str(found.rows[0].reason)
    assert found.exit_code == 5
    assert [boards.version(name) for name in "abcd"] == [None] * 4
    for name in "abcd":
        (boards.home(name) / "healthy").write_text("")
    assert [row.status for row in deploy_fleet(one, read_fleet(path)).rows] == ["ok"] * 4
    assert [row.status for row in deploy_fleet(one, read_fleet(path)).rows] == ["already"] * 4
    saved = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert [row["host"] for row in saved["rows"]] == list("abcd")


def test_what_was_done_is_known_when_a_later_wave_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_bundle: Path, sha256: str, _fleet: Fleet, host: str, wave: int) -> tuple[BoardRow, None]:
        if host == "c":
            raise KeyboardInterrupt
        return BoardRow(host, wave, "ok", sha256=sha256), None

    monkeypatch.setattr("edgepack.remote.fleet._work", work)
    with pytest.raises(KeyboardInterrupt):
        deploy_fleet(small_bundle(tmp_path), read_fleet(fleet(tmp_path, GOOD)), tmp_path / "out")
    known = documents.from_json(Deployment, (tmp_path / "out" / ROWS).read_bytes(), ROWS)
    assert [(row.host, row.status) for row in known.rows] == [("a", "ok")]
    assert known.stopped == "cut off after wave 1 of 2"


def test_a_dry_run_asks_every_board_also_after_a_wave_that_would_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(_bundle: Path, _sha256: str, _fleet: Fleet, host: str, wave: int) -> tuple[BoardRow, None]:
        return BoardRow(host, wave, "planned" if host == "b" else "failed", exit_code=int(host != "b")), None

    monkeypatch.setattr("edgepack.remote.fleet._ask", ask)
    found = deploy_fleet(small_bundle(tmp_path), read_fleet(fleet(tmp_path, GOOD)), dry_run=True)
    assert [(row.host, row.status) for row in found.rows] == [("a", "failed"), ("b", "planned"), ("c", "failed")]
    assert (found.stopped, found.exit_code) == (None, 1)


@pytest.mark.slow
def test_some_may_fail_when_the_wave_says_so(boards: Boards, tmp_path: Path) -> None:
    boards.through("a", free_port())
    waves = "waves = [{groups = ['canary'], most_failed = 1}, {groups = ['rest']}]"
    found = deploy_fleet(small_bundle(tmp_path, 4, version="1"), read_fleet(of(boards, tmp_path, waves)))
    assert [row.status for row in found.rows] == ["failed", "ok", "ok", "ok"]
    assert found.stopped is None


@pytest.mark.slow
def test_a_board_that_misses_its_bound_goes_back(boards: Boards, tmp_path: Path) -> None:
    groups = "one = ['a']\n"
    first, second = (small_bundle(tmp_path / v, 4, version=v) for v in ("1", "2"))
    deploy_fleet(first, read_fleet(of(boards, tmp_path, groups=groups)))
    text = f"python = '{boards.python}'\nduration = '100ms'\np90 = '0.0001ms'\n[groups]\n{groups}"
    found = deploy_fleet(second, read_fleet(fleet(tmp_path, text)), tmp_path / "out")
    (row,) = found.rows
    assert (row.status, row.exit_code) == ("failed", 5)
    assert "more than the 0.0001 ms allowed; version 1 is in use again" in str(row.reason)
    assert boards.version("a") == "1"
    assert (tmp_path / "out" / "a.json").is_file()


@pytest.mark.slow
def test_the_command_shows_a_table_and_writes_one_report(
    boards: Boards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_bundle(tmp_path, 4, version="1")
    text = f"python = '{boards.python}'\nduration = '100ms'\n[groups]\nall = ['a', 'b']\n"
    words = ["deploy", str(path), str(fleet(tmp_path, text))]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("planned") == 2
    assert "nothing is in use there" in said
    assert boards.version("a") is None
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count(" ok ") == 2
    assert (tmp_path / "out" / "report.html").stat().st_size > 5000
    assert main([*words, "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["status"] for row in rows] == ["already"] * 2
    assert rows[0]["sha256"] == open_bundle(path).sha256
    boards.through("a", free_port())
    assert main([*words, "--dry-run"]) == 1
    assert main(["deploy", str(path), "a", "--dry-run"]) == 2


@pytest.mark.timeout(60)
def test_a_fleet_is_a_file_of_limited_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "large.toml").write_text("#" * 200_000)
    for name, words in (("pipe", "cannot be read"), ("zero", "cannot be read"), ("large", "larger than 128 KiB")):
        with pytest.raises(ConfigError, match=words):
            read_fleet(tmp_path / f"{name}.toml")
