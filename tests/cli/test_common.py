"""How much a command says, and where its log goes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from edgepack.cli import tools

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that every engine builds."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def build(model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDGEPACK_STORE": str(model.parent / "store"), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "edgepack", "build", str(model), "--no-benchmark", *words],
        cwd=model.parent, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_build_says_as_much_as_it_is_told_to(model: Path) -> None:
    usual = build(model, "--log-file", "all.log")
    assert usual.returncode == 0, usual.stderr
    assert usual.stdout.splitlines()[0].split()[0] == "target"
    assert "✓ compile" in usual.stderr
    assert "report:" in usual.stderr
    quiet = build(model, "-q")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout == usual.stdout
    as_json = build(model, "--json", "--quiet")
    assert as_json.stderr == ""
    assert json.loads(as_json.stdout)["rows"][0]["status"] == "ok"
    log = (model.parent / "all.log").read_text()
    assert "compile host-onnxruntime fp32 done" in log


@pytest.mark.slow
def test_an_error_is_said_once_and_its_traceback_is_in_the_log(model: Path) -> None:
    model.write_bytes(b"no model")
    failed = build(model, "--log-file", "all.log")
    assert failed.returncode == 2
    (reason,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert failed.stderr.count(reason.removeprefix("error: ")) == 1
    log = (model.parent / "all.log").read_text()
    assert reason.removeprefix("error: ") in log
    assert "Traceback" in log


@pytest.mark.parametrize(
    ("words", "shown"), [((), ["warning: w"]), (("-v",), ["info: i", "warning: w"]), (("-q",), []), (("--quiet",), [])]
)
def test_what_the_library_logs_is_shown_by_its_weight(
    edgepack: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], shown: list[str]
) -> None:
    def log(**_: object) -> None:
        for level, text in ((logging.DEBUG, "d"), (logging.INFO, "i"), (logging.WARNING, "w")):
            logging.getLogger("edgepack.somewhere").log(level, text)

    monkeypatch.setattr(tools.doctor, "callback", log)
    assert edgepack("doctor", *words).err.splitlines() == shown
    assert edgepack(*words, "doctor").err.splitlines() == shown
    assert not [type(h) for h in logging.getLogger("edgepack").handlers if type(h).__name__ == "_OnStderr"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-q", "-v", "doctor"), "cannot be used together"),
        (("doctor", "-q", "-v"), "cannot be used together"),
        (("targets", "list", "-v", "--quiet"), "cannot be used together"),
        (("doctor", "--log-file", "nowhere/all.log"), "there is no folder nowhere"),
        (("doctor", "--log-file", "."), "is a directory"),
    ],
)
def test_what_cannot_be_meant_is_refused(refusal: Callable[..., str], words: tuple[str, ...], said: str) -> None:
    assert said in refusal(words)
