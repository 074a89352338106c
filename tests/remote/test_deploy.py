"""Deploying to a real OpenSSH server on loopback: links that are cut, full disks, wrong clocks, two at once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from program import main
from small_bundles import small_bundle
from ssh_server import CutLink, Server
from trust_cases import device, new_key, signed_bundle

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError, EdgepackError, RemoteError, ToolchainError
from edgepack.remote import commands, ssh
from edgepack.remote import deploy as deploying
from edgepack.remote.commands import _CHUNK_BYTES, Sent, probe, send
from edgepack.remote.deploy import deploy, in_use, remote_benchmark, remote_rollback, remote_status, remote_verify
from edgepack.remote.ssh import Board
from edgepack.runtime.install import Health
from edgepack.runtime.load import load
from edgepack.runtime.receive import incoming_folder
from edgepack.runtime.root import status
from edgepack.runtime.verify import verify
from edgepack.specs.result import Result, Scenario

pytestmark = pytest.mark.slow

BOARD = Board("board", sys.executable)


def received(server: Server) -> list[str]:
    folder = server.home / ".cache" / "edgepack" / "incoming"
    return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []


def large_file(path: Path, size: int = 6_000_000) -> Path:
    path.write_bytes(np.random.default_rng(len(path.name)).bytes(size))
    return path


def test_a_bundle_is_installed_on_another_machine(board: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    one, two = (small_bundle(tmp_path / v, 4, version=v) for v in ("1", "2"))
    found = deploy(one, BOARD, str(root))
    assert (found.host, found.already, found.cuts) == ("board", False, 0)
    assert found.sent_bytes == one.stat().st_size
    assert status(root).current == found.record
    assert found.record.sha256 == open_bundle(one).sha256
    again = deploy(one, BOARD, str(root))
    assert (again.already, again.sent_bytes, again.record) == (True, 0, found.record)
    second = deploy(two, BOARD, str(root))
    assert remote_status(BOARD, str(root)).current == second.record
    assert remote_rollback(BOARD, str(root)) == found.record
    assert deploy(two, BOARD, str(root)).sent_bytes == 0, "it is there still"


def test_a_board_has_the_time_of_its_health_command_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose window was as long as what is allowed for an installation was given up, and went on."""
    limits = list[float]()

    def call(_board: Board, words: tuple[str, ...], _kind: object, limit_s: float) -> None:
        assert words[-2:] in (("--window", "10800s"), ("--wait", "10min"))
        limits.append(limit_s)
        raise RemoteError("that is enough")

    monkeypatch.setattr(deploying, "need_edgepack", lambda _: None)
    monkeypatch.setattr(deploying, "in_use", lambda *_: None)
    monkeypatch.setattr(deploying, "send", lambda *_: Sent("there.edgepack", 0, 0))
    monkeypatch.setattr(deploying, "call", call)
    path = small_bundle(tmp_path)
    for health in (None, Health("true", 10_800)):
        with pytest.raises(RemoteError, match="that is enough"):
            deploy(path, BOARD, "root", health=health)
    assert limits[1] - limits[0] == 10_800


def test_it_is_verified_and_measured_there(board: Server, tmp_path: Path) -> None:
    path = small_bundle(tmp_path, 4)
    assert remote_verify(path, BOARD).passed
    scenario = Scenario("SingleStream", 200_000_000, 10_000_000, 1, 0, launches=1)
    result = remote_benchmark(path, BOARD, scenario, ("--no-limit",))
    assert result.bundle_sha256 == open_bundle(path).sha256
    assert result.percentiles


@pytest.mark.parametrize("lie", [None, "bundle_sha256", "bundle_name", "target", "precision", "scenario", "queries"])
def test_a_result_of_something_else_is_refused(
    lie: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(small_bundle(tmp_path, 4))
    asked = Scenario("SingleStream", 200_000_000, 10_000_000, 1, 0, launches=1)
    right = made_up.result(
        bundle.manifest.target, bundle.manifest.precision, bundle_name=bundle.manifest.name,
        bundle_sha256=bundle.sha256, scenario=asked,
    )  # fmt: skip
    others = {"precision": "bf16", "scenario": dataclasses.replace(asked, name="Offline"), "queries": -1}
    answer = right if lie is None else dataclasses.replace(right, **{lie: others.get(lie, "x")})
    answers(monkeypatch, answer)
    if lie is None:
        assert remote_benchmark(bundle.path, BOARD, asked) == right
        return
    with pytest.raises(RemoteError, match=r"measured something else than|no measurement gives"):
        remote_benchmark(bundle.path, BOARD, asked)


@pytest.mark.parametrize("lie", [None, "no output", "another output", "no sample", "an output that failed"])
def test_a_board_that_passes_what_it_has_not_run_is_refused(
    lie: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(small_bundle(tmp_path, 4))
    right = verify(bundle.path)
    lies: dict[str | None, dict[str, Any]] = {
        None: {},
        "no output": {"outputs": ()},
        "another output": {"outputs": tuple(dataclasses.replace(output, name="x") for output in right.outputs)},
        "no sample": {"samples": 0},
        "an output that failed": {"outputs": (dataclasses.replace(right.outputs[0], passed=False), *right.outputs[1:])},
    }
    answers(monkeypatch, dataclasses.replace(right, **lies[lie]))
    if lie is None:
        assert remote_verify(bundle.path, BOARD).passed
        return
    with pytest.raises(RemoteError, match=r"says that .* passed, and has not shown it"):
        remote_verify(bundle.path, BOARD)


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Let a board that takes every file answer a command with ``answer``."""
    monkeypatch.setattr(deploying, "need_edgepack", lambda _: None)
    monkeypatch.setattr(deploying, "send", lambda *_: Sent("there.edgepack", 0, 0))
    text = documents.to_json(answer).encode()
    monkeypatch.setattr(commands, "ask", lambda *_: ssh.Answer(0, text, ""))


def test_commands_run_there(board: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(small_bundle(tmp_path, 4))
    there = ["--on", "board", "--python", sys.executable, "--threads", "1"]
    assert main(["verify", path, *there]) == 0
    assert "verified" in capsys.readouterr().out
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    np.savez(tmp_path / "in.npz", **feeds)
    words = ["run", path, "--input", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]
    assert main([*words, *there]) == 0
    assert "scores  float32  [1, 5]" in capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as outputs, load(Path(path)) as model:
        np.testing.assert_allclose(outputs["scores"], model.infer(feeds)["scores"], rtol=1e-5)
    out = tmp_path / "result.json"
    words = ["benchmark", path, "--duration", "200ms", "--warmup", "10ms", "--launches", "1", "--no-limit"]
    assert main([*words, *there, "-o", str(out)]) == 0
    assert documents.from_json(Result, out.read_text(), "x").scenario.duration_ns == 200_000_000
    assert main(["run", path, "--input", path, *there]) == 2
    assert "board: " in capsys.readouterr().err


# --- the link ---------------------------------------------------------------------------------------------------------


def through(board: Server, link: CutLink, name: str) -> Board:
    return Board(board.add_name(name, link.port), sys.executable)


def test_a_link_that_is_cut_goes_on_where_it_was(board: Server, tmp_path: Path) -> None:
    link = CutLink(board.port, [1_500_000, 2_000_000, 100_000])
    file = large_file(tmp_path / "cut.bin")
    waited: list[float] = []
    done: list[int] = []
    sent = send(through(board, link, "cut"), file, lambda _what, count, _total: done.append(count), waited.append)
    link.close()
    assert (sent.cuts, link.done) == (3, 3)
    assert waited == [2.0, 4.0, 8.0]
    assert Path(sent.path).read_bytes() == file.read_bytes()
    # Where a link is cut with bytes under way, less had arrived than was sent; else it goes on behind them.
    gone_back = [after for before, after in itertools.pairwise(done) if after < before]
    assert not gone_back or max(gone_back) > _CHUNK_BYTES, "it did not begin anew"


def test_a_link_that_stays_cut_is_an_error_and_what_came_is_kept(board: Server, tmp_path: Path) -> None:
    link = CutLink(board.port, [3_000_000] * 2)
    file = large_file(tmp_path / "stays-cut.bin")
    with pytest.raises(RemoteError) as caught:
        send(through(board, link, "stays"), file, sleep=lambda _: None, tries=2)
    link.close()
    assert caught.value.hint
    assert ".part" in received(board)
    (part,) = (board.home / ".cache" / "edgepack" / "incoming").glob("*.part")
    came = part.stat().st_size
    assert came > 0
    assert send(BOARD, file).sent_bytes <= file.stat().st_size - came


def test_a_cut_before_the_installation_leaves_the_version_in_use(board: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = deploy(small_bundle(tmp_path / "1", 4, version="1"), BOARD, str(root)).record
    second = small_bundle(tmp_path / "2", 4, version="2.7")
    for at in range(6):
        link = CutLink(board.port, [2_000 + 1_500 * at])
        through(board, link, f"before{at}")
        try:
            deploy(second, Board(f"before{at}", sys.executable), str(root))
        except RemoteError:
            assert status(root).current == first
        link.close()
        if status(root).current != first:
            break
    assert deploy(second, BOARD, str(root)).record.version == "2.7"
    assert status(root).problem is None


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_deployers_at_once_both_end(board: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths = [small_bundle(tmp_path / v, 4, version=v) for v in ("1", "2")]
    ended: dict[int, object] = {}

    def go(i: int) -> None:
        try:
            ended[i] = deploy(paths[i], BOARD, str(root)).record.version
        except EdgepackError as error:
            ended[i] = error

    threads = [threading.Thread(target=go, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == {0: "1", 1: "2"}
    found = status(root)
    assert found.problem is None
    assert {record.version for record in found.versions} == {"1", "2"}


def test_two_senders_of_one_file_do_not_mix(board: Server, tmp_path: Path) -> None:
    file = large_file(tmp_path / "twice.bin")
    link = CutLink(board.port, [], bytes_per_s=3_000_000)
    slow = through(board, link, "slow")
    thread = threading.Thread(target=send, args=(slow, file))
    thread.start()
    deadline = time.monotonic() + 30
    while ".part" not in received(board) and time.monotonic() < deadline:
        time.sleep(0.02)
    second = send(BOARD, file)
    thread.join()
    link.close()
    assert (second.sent_bytes, Path(second.path).read_bytes()) == (0, file.read_bytes()), "it waited for the first"


# --- the board --------------------------------------------------------------------------------------------------------


def python_that(folder: Path, first: str) -> Board:
    """A board whose Python does something first."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\n{first}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return Board("board", str(path))


def test_a_full_disk_is_said_and_changes_nothing(board: Server, tmp_path: Path) -> None:
    """Simulated by the shell's limit of a file's size, as on a disk that is full."""
    root = tmp_path / "root"
    first = deploy(small_bundle(tmp_path / "1", 4, version="1"), BOARD, str(root)).record
    full = python_that(tmp_path, "export PYTHONDONTWRITEBYTECODE=1; ulimit -f 8")
    with pytest.raises(RemoteError, match="no space left") as caught:
        deploy(small_bundle(tmp_path / "2", 400, version="full"), full, str(root))
    assert caught.value.exit_code == 1
    assert status(root).current == first


def test_a_real_full_file_system(board: Server, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "small")]
    if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        full = python_that(tmp_path, f"export XDG_CACHE_HOME={tmp_path}/small")
        with pytest.raises(RemoteError, match="MB free, and"):
            send(full, large_file(tmp_path / "full.bin"))
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


def test_a_wrong_clock_is_noted(board: Server, tmp_path: Path) -> None:
    path = small_bundle(tmp_path, 4, version="clock")
    ahead = deploy(path, BOARD, str(tmp_path / "root"), clock=lambda: time.time() - 40 * 86_400)
    assert ahead.note == "its clock is 40 days ahead"
    assert deploy(path, BOARD, str(tmp_path / "root")).note == ""


def test_what_computes_wrong_values_there_has_its_exit_code(board: Server, tmp_path: Path) -> None:
    from small_bundles import small_compiled, small_facts, small_golden

    from edgepack.bundle.pack import pack
    from edgepack.verify.golden import read_golden, write_golden

    compiled = small_compiled(tmp_path / "compiled")
    golden = small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz")
    right = read_golden(golden)
    wrong = tuple({name: -value for name, value in sample.items()} for sample in right.outputs)
    write_golden(dataclasses.replace(right, outputs=wrong), golden)
    path = pack(compiled, golden, small_facts(version="9"), tmp_path)
    with pytest.raises(RemoteError, match=r"board: .*not put in use") as caught:
        deploy(path, BOARD, str(tmp_path / "root"))
    assert caught.value.exit_code == 5
    assert not remote_verify(path, BOARD).passed


def test_the_policy_there_holds(board: Server, tmp_path: Path) -> None:
    key = new_key(tmp_path, "release")
    strict = python_that(tmp_path, f"export EDGEPACK_POLICY={device(tmp_path / 'etc', key)}")
    with pytest.raises(RemoteError, match="is not signed") as caught:
        deploy(small_bundle(tmp_path / "plain", 4), strict, str(tmp_path / "root"))
    assert caught.value.exit_code == 5
    found = deploy(signed_bundle(tmp_path / "signed", key), strict, str(tmp_path / "root"))
    assert found.record.signers == (f"release {key.public.id[:16]}",)


def test_a_machine_that_cannot_be_used_is_said(board: Server, tmp_path: Path) -> None:
    path = small_bundle(tmp_path, 4)
    for host, python, kind, words in (
        ("board", "no-such-python", ToolchainError, "cannot run no-such-python"),
        ("board", "true", RemoteError, "that this edgepack cannot read"),
        ("nowhere.invalid", "python3", RemoteError, "Could not resolve hostname"),
    ):
        with pytest.raises(kind, match=words) as caught:
            deploy(path, Board(host, python), str(tmp_path / "root"))
        assert caught.value.hint


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a b", "a;b", "$(x)", "--", "a\nb", "@b", "a@-b"])
def test_what_is_no_host_never_reaches_ssh(host: str) -> None:
    with pytest.raises(ConfigError, match="not a host for ssh"):
        Board(host)


def test_a_host_key_that_is_not_known_or_another_is_refused(board: Server) -> None:
    """Even where the configuration would take it."""
    known = board.folder / "known_hosts"
    saved = known.read_text()
    with board.config.open("a") as file:
        file.write("Host *\n  StrictHostKeyChecking no\n")
    try:
        for text in ("", saved.replace("board", "other"), (board.folder / "user_key.pub").read_text()):
            known.write_text(f"board {' '.join(text.split()[:2])}\n" if text.startswith("ssh-") else text)
            with pytest.raises(RemoteError, match=r"[Hh]ost key"):
                probe(BOARD)
    finally:
        known.write_text(saved)
    assert probe(BOARD).edgepack is not None


def test_nothing_in_use_is_none_and_damage_is_told(board: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert in_use(BOARD, str(root)) is None
    record = deploy(small_bundle(tmp_path, 4), BOARD, str(root)).record
    installed = root / "current" / record.file
    installed.write_bytes(installed.read_bytes()[:-1])
    assert remote_status(BOARD, str(root)).problem
    assert in_use(BOARD, str(root)) is None
    assert deploy(small_bundle(tmp_path, 4), BOARD, str(root)).already is False
    assert status(root).problem is None


def test_words_with_spaces_and_quotes_stay_words(board: Server, tmp_path: Path) -> None:
    root = tmp_path / 'it\'s a $(touch x) `root` "here"'
    deploy(small_bundle(tmp_path, 4), BOARD, str(root))
    assert status(root).problem is None
    assert not list(Path.cwd().glob("x"))


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_commands(board: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--python", sys.executable]
    root = ["--root", str(tmp_path / "root")]
    for version in ("1", "2"):
        path = str(small_bundle(tmp_path / version, 4, version=version))
        assert main(["deploy", path, "board", *root, *there, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["record"]["version"] == version
    assert main(["deploy", path, "board", *root, *there]) == 0
    assert "board: had it in use already" in capsys.readouterr().out
    assert main(["status", "--on", "board", *root, *there]) == 0
    assert "small 2" in capsys.readouterr().out
    assert main(["rollback", "--on", "board", *root, *there]) == 0
    assert "small 1" in capsys.readouterr().out
    assert main(["status", "--on", "board", "--root", str(tmp_path / "none"), *there]) == 2
    assert "board: nothing is installed below" in capsys.readouterr().err


def test_incoming_files_are_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert incoming_folder() == tmp_path / "edgepack" / "incoming"
