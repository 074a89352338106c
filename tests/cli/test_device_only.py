"""The device's command line: words, exit codes and JSON of the full one, without a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_bundles import small_bundle

from edgepack import __version__
from edgepack.base import documents
from edgepack.benchmark import benchmark
from edgepack.bundle.archive import open_bundle
from edgepack.cli import device_only
from edgepack.cli.device_only import duration_ns, main
from edgepack.errors import EdgepackError
from edgepack.specs import Manifest, Result, Verification

assert benchmark


def test_inspect(bundle_path, capsys):
    assert main(["inspect", str(bundle_path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "small 1.0 for test-board, fp32" in shown.err
    assert "image: float32[N, 3, 8, 8]" in shown.err


def test_inspect_as_json(bundle_path, capsys):
    assert main(["inspect", str(bundle_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bundle = open_bundle(bundle_path)
    assert documents.decode(Manifest, found["manifest"], "x") == bundle.manifest
    assert (found["sha256"], found["size_bytes"]) == (bundle.sha256, bundle.size_bytes)


def test_verify(bundle_path, capsys):
    assert main(["verify", str(bundle_path), "--threads", "1", "--json"]) == 0
    shown = capsys.readouterr()
    assert documents.from_json(Verification, shown.out, "x").passed
    assert "verified: " in shown.err


def test_verify_that_fails_ends_with_5(bundle_path, capsys, monkeypatch):
    import edgepack.runtime.verify as module

    good = module.verify(bundle_path)
    monkeypatch.setattr(module, "verify", lambda *_: Verification(False, good.outputs, 2, "x", {"x": "1"}, (), "why"))
    assert main(["verify", str(bundle_path), "--json"]) == 5
    shown = capsys.readouterr()
    assert json.loads(shown.out)["passed"] is False
    assert "not verified" in shown.err
    assert "why" in shown.err


def test_run(bundle_path, tmp_path, capsys):
    np.savez(tmp_path / "input.npz", image=np.ones((1, 3, 8, 8), np.float32))
    arguments = ["run", str(bundle_path), "--input", str(tmp_path / "input.npz")]
    assert main([*arguments, "-o", str(tmp_path / "out.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with np.load(tmp_path / "out.npz") as outputs:
        np.testing.assert_allclose(outputs["scores"], found["outputs"]["scores"]["values"], rtol=1e-6)
    assert len(found["top5"]) == 5
    assert main(arguments) == 0
    assert "scores: float32[1, 5]" in capsys.readouterr().err


def test_benchmark(bundle_path, tmp_path, capsys):
    options = ["--duration", "200ms", "--warmup", "50ms", "--threads", "1"]
    assert main(["benchmark", str(bundle_path), *options, "-o", str(tmp_path / "r.json"), "--json"]) == 0
    shown = capsys.readouterr()
    result = documents.from_json(Result, shown.out, "x")
    assert result == documents.from_json(Result, (tmp_path / "r.json").read_text(), "x")
    assert (result.bundle_name, result.scenario.name) == ("small", "SingleStream")
    assert result.bundle_sha256 == open_bundle(bundle_path).sha256
    assert "samples/s" in shown.err


def test_benchmark_of_several(bundle_path, tmp_path, capsys):
    other = small_bundle(tmp_path, name="other")
    options = ["--duration", "100ms", "--warmup", "10ms", "--threads", "1"]
    assert (
        main(["benchmark", str(bundle_path), str(other), *options, "--out", str(tmp_path / "results"), "--json"]) == 0
    )
    assert [result["bundle_name"] for result in json.loads(capsys.readouterr().out)] == ["small", "other"]
    assert len(list((tmp_path / "results").iterdir())) == 2
    (tmp_path / "file").write_text("")
    assert main(["benchmark", str(bundle_path), str(other), *options, "--out", str(tmp_path / "file")]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "COMMAND"),
        (["bench"], 2, "invalid choice"),
        (["verify"], 2, "BUNDLE"),
        (["verify", "absent.edgepack"], 2, "there is no file absent.edgepack"),
        (["verify", "/"], 2, "is a folder"),
        (["verify", "x", "--threads", "0"], 2, "whole number"),
        (["verify", "x", "--what"], 2, "unrecognized"),
        (["run", "x"], 2, "--input"),
        (["benchmark", "x", "--duration", "soon"], 2, "no duration"),
        (["benchmark", "x", "--scenario", "Sever"], 2, "invalid choice"),
        (["benchmark", "x", "--scenario", "Server"], 2, "--latency-bound"),
        (["inspect", "a\0b"], 2, "cannot be opened"),
    ],
)
def test_wrong_usage(arguments, code, words, capsys):
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "what to do: " in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EdgepackError("broken", hint="mend it"), 1, "what to do: mend it"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(28, "No space left on device", "/x"), 1, "No space left on device: /x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("oh"), 1, "defect of edgepack: ZeroDivisionError: oh"),
    ],
)
def test_errors_are_one_message_unless_debugged(error, code, words, capsys, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(device_only, "_COMMANDS", {"inspect": fail})
    assert main(["inspect", "x"]) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown
    assert main(["inspect", "x", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_durations():
    assert [duration_ns(text) for text in ("500ms", "10s", "2min", "1.5", "1m")] == [
        500_000_000, 10_000_000_000, 120_000_000_000, 1_500_000_000, 60_000_000_000
    ]  # fmt: skip


def test_as_a_program(bundle_path, tmp_path):
    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "edgepack.runtime", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, **options)

    assert call("--version").stdout == f"edgepack, version {__version__}\n"
    assert "verify" in call("--help").stdout
    assert call("inspect", bundle_path).returncode == 0
    damaged = Path(shutil.copy(bundle_path, tmp_path))
    data = bytearray(damaged.read_bytes())
    data[open_bundle(bundle_path).members["golden.npz"].offset + 99] ^= 1
    damaged.write_bytes(data)
    failed = call("verify", damaged)
    assert failed.returncode == 5
    assert "'golden.npz' do not match" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_reader_that_went_away(bundle_path):
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "edgepack.runtime", "inspect", str(bundle_path), "--json"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""
