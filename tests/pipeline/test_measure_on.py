"""Rows of a build that are measured on the device itself: a real OpenSSH server stands for the device."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import made_up
import pytest
from program import main
from small_bundles import small_onnx
from ssh_server import SSHD, Server, serving

from edgepack.device.host import host_facts
from edgepack.pipeline import measure_on as measuring
from edgepack.pipeline.measure_on import measure_on
from edgepack.specs.build import BuildRow

PROFILE = """
id = "{name}"
title = "A board for tests"
backend = "onnxruntime"
arch = "{arch}"

[compute]
cores = 1
precisions = ["fp32"]
cpu_model = '{cpu}'

[sources]
"compute.cores" = "a test"
"compute.precisions" = "a test"
"compute.cpu_model" = "a test"
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    with serving(tmp_path / "sshd") as server:
        monkeypatch.setenv("EDGEPACK_SSH", server.ssh)
        yield server


def profile(folder: Path, name: str, cpu: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(PROFILE.format(name=name, arch=host_facts().arch, cpu=cpu))
    return str(path)


@pytest.mark.slow
def test_a_build_is_measured_on_the_device_that_it_is_for(board: Server, tmp_path: Path) -> None:
    right = profile(tmp_path, "the-board", f"^{re.escape(host_facts().cpu)}$")
    other = profile(tmp_path, "another-board", "^no such processor$")
    words = ["build", str(small_onnx(tmp_path / "net.onnx")), "--store", str(tmp_path / "store"), "--no-benchmark"]
    words += ["-t", right, "-t", other, "-t", "host-onnxruntime", "-o", str(tmp_path / "out"), "--duration", "0.2"]
    assert main([*words, "--measure-on", "nowhere.invalid", "--measure-on", "board"]) == 0
    rows = {row["target"]: row for row in json.loads((tmp_path / "out" / "build.json").read_text())["rows"]}
    measured, elsewhere, here = (rows[name] for name in ("the-board", "another-board", "host-onnxruntime"))
    assert measured["latency_ns"]["p50"] > 0
    assert measured["measured_on"].startswith(f"board: {host_facts().cpu}")
    assert measured["notes"]["verified"] == "on board"
    assert measured["notes"]["speedup_over_fp32"].startswith("not measured on another machine")
    assert elsewhere["latency_ns"] is None
    assert "nowhere.invalid: " in elsewhere["notes"]["latency"]
    assert "is not another-board" in elsewhere["notes"]["latency"]
    assert here["latency_ns"] is None, "this machine is not another one"
    (result,) = (tmp_path / "out" / "results").glob("*the-board*.json")
    assert json.loads(result.read_text())["stands_for_target"] is True
    assert "the-board" in (tmp_path / "out" / "report.html").read_text()


def test_a_device_that_computes_wrong_values_fails_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepack.errors import VerificationError

    def wrong(*_: object) -> None:
        raise VerificationError("net computes wrong values on board (scores)")

    monkeypatch.setattr(measuring, "_on", wrong)
    row = BuildRow("the-board", "fp32", "ok", bundle="net.edgepack")
    (made,), results = measure_on(("board",), (row,), 1.0, 0)
    assert (made.status, made.exit_code, results) == ("failed", 5, ())
    assert made.reason == "net computes wrong values on board (scores)"


def test_a_board_that_calls_itself_what_its_processor_is_not_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    lie = made_up.result("raspberry-pi-5", stands_for_target=True)  # of an x86 host
    monkeypatch.setattr(measuring, "remote_benchmark", lambda *_: lie)
    monkeypatch.setattr(measuring, "remote_verify", lambda *_: pytest.fail("it was asked"))
    row = BuildRow("raspberry-pi-5", "fp32", "ok", bundle="net.edgepack")
    (made,), results = measure_on(("board",), (row,), 1.0, 0)
    assert (made.latency_ns, results) == (None, ())
    assert f"({lie.host.cpu}) is not raspberry-pi-5" in made.notes["latency"]


def test_rows_that_were_measured_or_have_no_bundle_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_on", lambda *_: pytest.fail("it was asked"))
    rows = (
        BuildRow("a", "fp32", "failed"),
        BuildRow("a", "int8", "ok"),
        BuildRow("host-onnxruntime", "fp32", "ok", bundle="x"),
    )
    assert measure_on(("board",), rows, 1.0, 0) == (rows, ())


def test_what_is_no_host_is_said_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", str(small_onnx(tmp_path / "net.onnx")), "--measure-on", "-oProxyCommand=x"]
    assert main(words) == 2
    assert "is not a host for ssh" in capsys.readouterr().err
