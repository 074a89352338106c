"""Jetson bundles from packing to use: the chain of payloads, installing, adopting, on TEST DOUBLES of the engines.

No line of this ran on a GPU. Files, processes and ONNX Runtime's fallback are real.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jetson_bundles import feeds_for, jetson_bundle, reference
from program import main

from edgepack.bundle.archive import open_bundle
from edgepack.device.host import host_facts, saturates
from edgepack.errors import CompileError, ConfigError, VerificationError
from edgepack.runtime.adopt import adopt
from edgepack.runtime.install import install
from edgepack.runtime.load import load
from edgepack.runtime.root import status
from edgepack.runtime.verify import verify
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

Use = Any


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))


def test_a_bundle_names_the_engine_first_and_the_cpu_second(tmp_path: Path) -> None:
    manifest = open_bundle(jetson_bundle("static-int8", tmp_path)).manifest
    assert [(p.backend, p.device) for p in manifest.payloads] == [("tensorrt", "GPU"), ("onnxruntime", "CPU")]
    first, second = manifest.payloads
    assert set(first.files) - set(second.files) == {"model/tensorrt/recipe.json"}
    assert manifest.requirements.engine == {"onnxruntime": "1.20.0", "tensorrt": "8.5"}


def test_without_a_gpu_the_cpu_runs_it_and_says_why(tmp_path: Path) -> None:
    if host_facts().gpu is not None:
        pytest.skip("there is an NVIDIA GPU here")
    bundle = jetson_bundle("static-int8", tmp_path)
    feeds = feeds_for("static-int8")
    with load(bundle) as model:
        assert (model.backend, model.device) == ("onnxruntime", "CPU")
        assert len(model.skipped) == 1
        assert "TensorRT" in model.skipped[0] or "CUDA" in model.skipped[0]
        assert ("clip" in model.chosen) == saturates(host_facts())
        found = model.infer(feeds)["y"]
        expected = reference(model.folder / "model" / "tensorrt" / "model.onnx", feeds)["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    result = verify(bundle)
    assert result.passed
    assert "not used: " in (result.note or "")


def test_with_the_double_its_engine_runs_it(device: Use, builds: Callable[[], int], tmp_path: Path) -> None:
    bundle = jetson_bundle("static-int8", tmp_path)
    with load(bundle) as model:
        assert (model.backend, model.device, model.skipped) == ("tensorrt", "GPU", ())
        assert model.chosen.startswith("the engine was built here now, in ")
        assert model.versions["tensorrt"] == "10.3.0"
    result = verify(bundle)
    assert (result.passed, result.engine, result.note) == (True, "tensorrt GPU", "the engine was built here before")
    assert builds() == 1


def test_the_cpu_may_be_asked_for(device: Use, builds: Callable[[], int], tmp_path: Path) -> None:
    with load(jetson_bundle("static-int8", tmp_path), RunOptions(device="CPU")) as model:
        assert (model.backend, model.device) == ("onnxruntime", "CPU")
    assert builds() == 0


@pytest.mark.parametrize("how", ["refuse", "killed"])
def test_a_build_that_fails_gives_way_to_the_cpu_with_its_reason(how: str, device: Use, tmp_path: Path) -> None:
    device(DOUBLE_BUILD=how)
    with load(jetson_bundle("static-int8", tmp_path)) as model:
        assert model.backend == "onnxruntime"
        assert {"refuse": "Could not find any implementation", "killed": "SIGKILL"}[how] in model.skipped[0]


def test_where_nothing_is_left_the_engines_refusal_is_told(
    device: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.engines.onnxruntime import engine as onnxruntime

    def absent() -> Any:
        from edgepack.errors import ToolchainError

        raise ToolchainError("ONNX Runtime is not installed")

    monkeypatch.setattr(onnxruntime, "versions", absent)
    device(DOUBLE_BUILD="refuse")
    with pytest.raises(CompileError, match="Could not find any implementation"):
        load(jetson_bundle("static-int8", tmp_path))


def test_an_installed_bundle_keeps_its_engine_below_the_root(
    device: Use, builds: Callable[[], int], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    record = install(jetson_bundle("static-int8", tmp_path), root)
    assert (record.engine, record.verification.passed, record.passed_over) == ("tensorrt GPU", True, ())
    assert record.chosen.startswith("the engine was built here now")
    assert len(list((root / "plans").glob("*.plan"))) == 1
    assert not (tmp_path / "plans").exists(), "nothing is kept elsewhere"
    with load(root / "current" / "static-int8-model.edgepack") as model:
        assert model.chosen == "the engine was built here before"
    assert builds() == 1
    assert status(root).current == record


def test_golden_vectors_decide_whether_it_is_put_in_use(
    device: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    with pytest.raises(VerificationError, match="not put in use"):
        install(jetson_bundle("static-int8", tmp_path, wrong=True), root)
    assert status(root).current is None


def test_an_adopted_engine_runs_on_twins_and_not_on_others(
    device: Use, builds: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = jetson_bundle("static-int8", tmp_path)
    out = tmp_path / "adopted.edgepack"
    with pytest.raises(ConfigError, match="has not built an engine"):
        adopt(bundle, out)
    verify(bundle)
    payload = adopt(bundle, out)
    assert payload.key["sm"] == "8.7"
    assert [p.backend for p in open_bundle(out).manifest.payloads] == ["tensorrt", "tensorrt", "onnxruntime"]
    assert builds() == 1
    monkeypatch.setenv("EDGEPACK_PLANS", str(tmp_path / "a twin's"))
    with load(out) as model:
        assert model.chosen == "the engine that is packed for exactly this device"
    assert builds() == 1
    device(DOUBLE_CUDA_SM="86", DOUBLE_CUDA_NAME="another board")
    with load(out) as model:
        assert "built for another device" in model.skipped[0]
        assert "sm 8.7 (here 8.6)" in model.skipped[0]
        assert model.chosen.startswith("the engine was built here now")
    assert builds() == 2


def test_adopting_what_has_no_tensorrt_is_refused(tmp_path: Path) -> None:
    from small_bundles import small_bundle

    with pytest.raises(ConfigError, match="no TensorRT payload"):
        adopt(small_bundle(tmp_path), tmp_path / "out.edgepack")
    assert not (tmp_path / "out.edgepack").exists()


def test_the_devices_command_line_installs_and_adopts(
    device: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, root = jetson_bundle("static-fp16", tmp_path), tmp_path / "root"
    assert main(["install", str(bundle), "--root", str(root), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["engine"] == "tensorrt GPU"
    assert "engine: tensorrt GPU (the engine was built here now" in captured.err
    installed = root / "current" / "static-fp16-model.edgepack"
    assert main(["adopt", str(installed), "-o", str(tmp_path / "twin.edgepack")]) == 0
    assert "sm 8.7" in capsys.readouterr().out
    assert "tensorrt" in sys.modules
