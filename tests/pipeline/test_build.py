"""The whole job on real engines: the digits network, and what a build must withstand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from digits_build import build_digits
from full_disk import full_disk
from onnx import TensorProto, helper, numpy_helper
from program import main

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ConfigError
from edgepack.execution.events import Silent
from edgepack.execution.store import Store
from edgepack.pipeline.build import build, exit_code
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.load import load
from edgepack.runtime.verify import verify
from edgepack.specs.build import BuildResult
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.slow


def test_every_bundle_is_built_and_its_accuracy_measured(digits: tuple[BuildResult, Store]) -> None:
    result, _ = digits
    assert [(row.target, row.precision, row.status) for row in result.rows] == [
        (target, precision, "ok") for target in ("host-onnxruntime", "host-openvino") for precision in ("fp32", "int8")
    ], [row.reason for row in result.rows]
    for row in result.rows:
        assert row.accuracy is not None
        assert (row.accuracy.metric, row.accuracy.n) == ("top1", 600)
        assert row.accuracy.fp32 >= 0.98
        assert row.accuracy.drop <= 0.01
        low, high = row.accuracy.ci95
        assert low <= row.accuracy.drop <= high
        assert row.latency_ns is not None
        assert row.latency_ns.p50 > 0


def test_int8_is_smaller_and_differs_from_fp32(digits: tuple[BuildResult, Store]) -> None:
    fp32, int8 = digits[0].rows[:2]
    sizes = []
    for row in (fp32, int8):
        assert row.bundle is not None
        files = open_bundle(Path(row.bundle)).manifest.files
        sizes.append(sum(entry.size_bytes for entry in files if entry.path.startswith("model/")))
    assert sizes[1] < 0.5 * sizes[0]
    assert int8.sqnr_db is not None
    assert 15 < int8.sqnr_db < 60


def test_the_check_of_good_samples_is_quiet(digits: tuple[BuildResult, Store]) -> None:
    found = digits[0].lint
    assert found is not None
    assert found.warnings == ()
    assert found.eval_samples == 600


def test_bundles_prove_themselves(digits: tuple[BuildResult, Store]) -> None:
    for row in digits[0].rows:
        assert row.bundle is not None
        found = verify(Path(row.bundle), RunOptions())
        assert found.passed
        assert open_bundle(Path(row.bundle)).sha256 == row.sha256
        with load(Path(row.bundle)) as model:
            assert model.infer({"input": np.zeros((3, 1, 8, 8), np.float32)})["output"].shape == (3, 10)


@pytest.fixture(scope="module")
def again(digits: tuple[BuildResult, Store]) -> BuildResult:
    """What the same build returns once more."""
    result, store = digits
    return build_digits(result.out, Store(store.folder))


def test_a_second_build_does_no_work_and_gives_the_same(digits: tuple[BuildResult, Store], again: BuildResult) -> None:
    assert again.stages_run == 0
    assert again.rows == digits[0].rows


def test_build_json_holds_what_was_returned(again: BuildResult) -> None:
    result = again
    document = json.loads((Path(result.out) / "build.json").read_text())
    keys = {
        "target", "precision", "status", "reason", "bundle", "sha256", "size_bytes", "accuracy", "sqnr_db", "cosine",
        "agreement", "latency_ns", "speedup_over_fp32", "measured_on",
    }  # fmt: skip
    for row, returned in zip(document["rows"], result.rows, strict=True):
        assert keys <= set(row)
        assert row["sha256"] == returned.sha256
        assert set(row["accuracy"]) == {"metric", "n", "fp32", "value", "drop", "ci95", "truth", "classes"}
    assert result.report is not None
    assert "host-openvino" in Path(result.report).read_text()


_EXACT = "def exact(outputs, labels):\n    return float((abs(outputs - labels) < 1e-5).mean())\n"


@pytest.mark.long
def test_a_gate_that_cannot_be_kept_is_said_and_leaves_no_bundle(tmp_path: Path, small_conv: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(small_conv), providers=["CPUExecutionProvider"])
    np.savez(tmp_path / "data.npz", x=x, labels=session.run(None, {"x": x})[0])
    (tmp_path / "score.py").write_text(_EXACT)
    settings = BuildSettings(
        model=str(small_conv), targets=("host-onnxruntime",), precisions=("int8",), data=str(tmp_path / "data.npz"),
        metric=f"{tmp_path}/score.py:exact", max_drop=0.0, out=str(tmp_path / "out"), benchmark=False,
    )  # fmt: skip
    (row,) = build(settings, Store(tmp_path / "store")).rows
    assert (row.status, row.bundle, row.exit_code) == ("gate_missed", None, 5)
    assert row.reason is not None
    assert "more than the 0 allowed" in row.reason
    assert row.accuracy is not None
    assert row.trials
    assert all(trial.p50_ns is not None and trial.p50_ns > 0 for trial in row.trials)
    assert any(trial.front for trial in row.trials)
    assert not list((tmp_path / "out").glob("*.edgepack"))


def test_a_gate_that_needs_labels_ends_before_any_row(tmp_path: Path, small_conv: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32))
    settings = BuildSettings(
        model=str(small_conv), targets=("host-onnxruntime",), data=str(tmp_path / "data.npz"), metric="top1",
        max_drop=0.01, out=str(tmp_path / "out"), benchmark=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="needs labels, and the samples have none") as error:
        build(settings, Store(tmp_path / "store"))
    assert "--max-change" in error.value.hint


def test_corrections_are_kept_only_where_they_help_on_unseen_samples(tmp_path: Path, small_conv: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    rows = {}
    for method in ("plain", "auto"):
        settings = BuildSettings(
            model=str(small_conv), targets=("host-onnxruntime",), precisions=("int8",), data=str(tmp_path / "data.npz"),
            method=method, out=str(tmp_path / method), benchmark=False,
        )  # fmt: skip
        (rows[method],) = build(settings, Store(tmp_path / "store")).rows
        assert rows[method].status == "ok", rows[method].reason
    assert "corrections" not in rows["plain"].notes
    assert "on 7 calibration samples that nothing was fitted on" in rows["auto"].notes["corrections"]
    steps = rows["auto"].corrections
    assert [step.name for step in steps] == [
        "integers nearest to the weights", "channels scaled", "integers nearest in the output",
        "biases corrected layer by layer", "gains and biases corrected layer by layer",
    ]  # fmt: skip
    kept = [step.sqnr_db for step in steps if step.kept]
    assert kept == sorted(kept)
    if len(kept) == 1:
        assert rows["auto"].sha256 == rows["plain"].sha256


# --- what a build must withstand --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two convolutions and a matrix, made in code."""
    generator = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="conv1", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c1"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w2"], ["y"], name="gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [weight("w0", 8, 3, 3, 3), weight("b0", 8), weight("w1", 16, 8, 3, 3), weight("w2", 16, 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(model, path)
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgepack", *(str(word) for word in words)]


def data_file(folder: Path) -> Path:
    path = folder / "data.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((24, 3, 8, 8)).astype(np.float32))
    return path


def test_a_metric_of_the_user_that_changed_is_computed_again(tmp_path: Path, small_conv: Path) -> None:
    """Also where only a file that the metric imports has changed."""
    (tmp_path / "metric.py").write_text("from figure import FIGURE\ndef f(outputs, labels):\n    return FIGURE\n")
    arrays = np.load(data_file(tmp_path))
    np.savez(tmp_path / "labelled.npz", x=arrays["x"], labels=np.zeros(24, np.int64))
    settings = BuildSettings(
        str(small_conv), eval=str(tmp_path / "labelled.npz"), metric=f"{tmp_path / 'metric.py'}:f",
        out=str(tmp_path / "out"), benchmark=False,
    )  # fmt: skip
    for figure in (0.5, 0.75):
        (tmp_path / "figure.py").write_text(f"FIGURE = {figure}\n")
        accuracy = build(settings, Store(tmp_path / "store")).rows[0].accuracy
        assert accuracy is not None
        assert accuracy.value == figure


@pytest.mark.long
def test_a_killed_build_leaves_whole_bundles_or_none_and_the_next_one_goes_on(tmp_path: Path, small_conv: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    words = command(
        "build", small_conv, "--target", "host-onnxruntime", "--precision", "fp32", "--precision", "int8",
        "--data", data_file(tmp_path), "--out", out, "--store", store, "--no-benchmark", "--json",
    )  # fmt: skip
    hits = []  # stages whose output stood in the store when the build was killed
    for wanted in (0, 1, 3, 5, 7, 9):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and len(list(store.glob("*/[!.]*/_value.json"))) < wanted:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        hits.append(len(list(store.glob("*/[!.]*/_value.json"))) if process.wait() == -signal.SIGKILL else None)
        for bundle in out.glob("*.edgepack"):
            open_bundle(bundle)
        visible = [p for p in out.glob("*.edgepack*") if not p.name.startswith(".")]
        assert not [p for p in visible if p.suffix != ".edgepack"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert [row["status"] for row in result["rows"]] == ["ok", "ok"]
    kept = [n for n in hits if n is not None]
    assert len(kept) >= 5, "the build ended before it was killed"
    assert kept == sorted(kept)
    assert result["stages_reused"] >= kept[-1], "what a killed build had finished is not done again"
    assert not list(store.rglob("*.tmp"))


_ENGINES = """
import edgepack.engines
edgepack.engines.ENGINES.own.update(tensorrt="crashing_engine:ENGINE", tvm="hanging_engine:ENGINE")
"""
_ENGINE = '''
"""A test double of an engine that {does} while compiling."""
import ctypes, time
from edgepack.engines import Engine
ENGINE = Engine("a double", __name__)
def versions(): return {{"double": "1"}}
def check(model, target): return []
def compile_model(model, target, precision, out):
    {code}
'''
_PROFILE = 'id = "{0}-board"\ntitle = "a board whose engine is a test double"\nbackend = "{1}"\narch = "x86_64"\n'


@pytest.mark.long
def test_an_engine_that_crashes_or_hangs_costs_one_row(tmp_path: Path, small_conv: Path) -> None:
    engines = {"crashing": ("crashes", "ctypes.string_at(0)"), "hanging": ("hangs", "time.sleep(600)")}
    (tmp_path / "sitecustomize.py").write_text(_ENGINES)
    for name, (does, code) in engines.items():
        (tmp_path / f"{name}_engine.py").write_text(_ENGINE.format(does=does, code=code))
        (tmp_path / f"{name}.toml").write_text(_PROFILE.format(name, "tensorrt" if name == "crashing" else "tvm"))
    words = command(
        "build", small_conv, "--target", tmp_path / "crashing.toml", "--target", tmp_path / "hanging.toml",
        "--target", "host-onnxruntime", "--out", tmp_path / "out", "--store", tmp_path / "store", "--no-benchmark",
        "--compile-limit", "8", "--json",
    )  # fmt: skip
    path = [str(tmp_path), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4, done.stderr
    crashed, hung, fine = json.loads(done.stdout)["rows"]
    assert crashed["status"] == hung["status"] == "failed"
    assert "SIGSEGV" in crashed["reason"]
    assert "took longer than 8 s" in hung["reason"]
    assert fine["status"] == "ok"
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_with_one_error_and_nothing_half_written(tmp_path: Path, small_conv: Path) -> None:
    """Simulated by RLIMIT_FSIZE: no file may grow over 3 kB, as on a disk that is full."""
    words = command(
        "build", small_conv, "--target", "host-onnxruntime", "--out", tmp_path / "out", "--store", tmp_path / "store",
        "--no-benchmark",
    )  # fmt: skip
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, **full_disk(3000),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.edgepack"))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.zeros((4, 3, 8, 8), np.float32)}, "x"),
        ({"x": np.zeros((4, 3, 9, 8), np.float32)}, "[N, 3, 8, 8]"),
        ({"x": np.zeros((4, 3, 8, 8), np.float64)}, "float32"),
        ({"x": np.full((4, 3, 8, 8), np.nan, np.float32)}, "x"),
        ({"x": np.zeros((0, 3, 8, 8), np.float32)}, "data.npz"),
        ({"x": np.zeros((4, 3, 8, 8), np.float32), "labels": np.zeros(3, np.int64)}, "labels"),
    ],
)
def test_samples_that_do_not_fit_end_with_one_error(
    tmp_path: Path, small_conv: Path, capfd: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    words = (
        "build", small_conv, "--precision", "int8", "--data", tmp_path / "data.npz", "--out", tmp_path / "out",
        "--store", tmp_path / "store", "--no-benchmark",
    )  # fmt: skip
    code, told = main([str(word) for word in words]), capfd.readouterr().err
    assert code == 2, told
    assert told.count("error:") == 1
    assert said in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out").glob("*.edgepack"))


@pytest.mark.parametrize("content", [b"", b"not onnx at all", None])
def test_a_file_that_is_no_model_ends_with_one_error(
    tmp_path: Path, small_conv: Path, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(small_conv.read_bytes()[:-700] if content is None else content)
    code = main(["build", str(model), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")])
    told = capfd.readouterr().err
    assert code == 2, told
    assert told.count("error:") == 1
    assert "model.onnx" in told
    assert "Traceback" not in told


def test_a_precision_that_a_target_does_not_offer_is_skipped_unless_that_is_strict(
    tmp_path: Path, small_conv: Path
) -> None:
    def rows(*precisions: str, **changes: object) -> tuple[list[tuple[str, str, int]], int]:
        settings = BuildSettings(
            str(small_conv), precisions=precisions, out=str(tmp_path / "out"), benchmark=False, **changes
        )  # type: ignore[arg-type]
        result = build(settings, Store(tmp_path / "store"), Recorded())
        assert [row.reason is None for row in result.rows] == [row.status == "ok" for row in result.rows]
        return [(row.precision, row.status, row.exit_code) for row in result.rows], exit_code(result)

    told: list[tuple[int, int, str, bool]] = []

    class Recorded(Silent):
        def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
            told.append((number, total, title, left_s is not None))

    left = tmp_path / "out" / f"{small_conv.stem}-host-onnxruntime-bf16.edgepack"
    left.parent.mkdir()
    left.write_bytes(b"of an earlier build")
    assert rows("fp32", "bf16") == ([("fp32", "ok", 0), ("bf16", "skipped", 0)], 0)
    assert not left.exists()
    assert "bf16: skipped" not in (tmp_path / "out" / "report.html").read_text()
    assert (
        "host-onnxruntime does not offer bf16; its profile lists fp32" in (tmp_path / "out" / "report.html").read_text()
    )
    assert rows("fp32", "bf16", strict=True) == ([("fp32", "ok", 0), ("bf16", "failed", 2)], 2)
    assert told == [
        (1, 2, "host-onnxruntime fp32", False),
        (2, 2, "host-onnxruntime bf16", False),
        (1, 2, "host-onnxruntime fp32", False),  # of bf16 nothing is known: it was skipped
        (2, 2, "host-onnxruntime bf16", False),
    ]
    # Nothing was built at all: that is no success.
    assert rows("bf16") == ([("bf16", "skipped", 0)], 2)
