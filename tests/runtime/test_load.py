"""Loading bundles: the runner's own call, the choice of payload, and what a host must have."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from small_bundles import (
    onnx_outputs,
    small_bundle,
    small_compiled,
    small_facts,
    small_golden,
    small_onnx,
    small_openvino_bundle,
)

from edgepack.bundle.archive import open_bundle
from edgepack.device.host import host_facts
from edgepack.errors import BundleError, CompileError, DataError, EdgepackError, IntegrityError, ToolchainError
from edgepack.runtime.load import choose_payload, load
from edgepack.specs.bundle import Payload, Requirements
from edgepack.specs.run import RunOptions


@pytest.fixture
def feed():
    return {"image": np.random.default_rng(2).standard_normal((3, 3, 8, 8), np.float32)}


def test_it_gives_what_the_engine_gives(bundle_path, feed, tmp_path):
    with load(bundle_path, RunOptions(threads=1)) as model:
        found = model.infer(feed)
        assert model.manifest.name == "small"
        assert (model.backend, model.device, model.skipped) == ("onnxruntime", "CPU", ())
        assert [tensor.name for tensor in (*model.inputs, *model.outputs)] == ["image", "scores"]
    compiled = small_compiled(tmp_path / "compiled")
    np.testing.assert_allclose(found["scores"], onnx_outputs(compiled.folder / "model.onnx", feed)["scores"], rtol=1e-5)


def test_a_call_is_the_runners_own_where_the_engine_takes_calls_of_several_threads(bundle_path):
    """Nothing stands between the caller and the engine's runner, so that a bundle costs nothing per call."""
    from edgepack.engines.onnxruntime.engine import OnnxRuntimeRunner

    with load(bundle_path) as model:
        assert model.infer.__func__ is OnnxRuntimeRunner.infer


def test_openvino_runs_a_bundle_too(tmp_path, feed):
    pytest.importorskip("openvino")
    with load(small_openvino_bundle(tmp_path)) as loaded:
        found = loaded.infer(feed)
        assert loaded.backend == "openvino"
        wanted = onnx_outputs(small_onnx(tmp_path / "same.onnx"), feed)
        np.testing.assert_allclose(found["scores"], wanted["scores"], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "batch", "asked"),
    [
        (RunOptions(), 1, None),
        (RunOptions(), 4, 4),
        (None, 4, 4),
        (RunOptions(fixed_batch=0), 4, 0),
        (RunOptions(fixed_batch=2), 4, 2),
    ],
)
def test_openvino_is_loaded_for_the_batch_that_most_calls_have(tmp_path, options, batch, asked):
    pytest.importorskip("openvino")
    with load(small_openvino_bundle(tmp_path), options, batch=batch) as loaded:
        assert loaded.options.fixed_batch == asked
        for samples in (1, 4, 2):
            feed = {"image": np.random.default_rng(samples).standard_normal((samples, 3, 8, 8), np.float32)}
            wanted = onnx_outputs(small_onnx(tmp_path / "same.onnx"), feed)["scores"]
            np.testing.assert_allclose(loaded.infer(feed)["scores"], wanted, rtol=1e-4)


def test_other_engines_take_any_batch_whatever_most_calls_have(bundle_path):
    with load(bundle_path, batch=4) as loaded:
        assert loaded.options.fixed_batch is None


def test_a_closed_model_cannot_be_used(bundle_path, feed):
    model = load(bundle_path)
    model.close()
    with pytest.raises(EdgepackError, match="closed"):
        model.infer(feed)


def test_one_model_answers_several_threads(tmp_path, bundle_path):
    pytest.importorskip("openvino")
    for path in (small_openvino_bundle(tmp_path), bundle_path):
        with load(path) as model:
            wrong = []

            def work(number, model=model, wrong=wrong):
                feed = {"image": np.full((1 + number % 2, 3, 8, 8), number - 1, np.float32)}
                wanted = onnx_outputs(small_onnx(tmp_path / f"same{number}.onnx"), feed)["scores"]
                for _ in range(200):
                    found = model.infer(feed)["scores"]
                    wrong.extend([number] * (not np.allclose(found, wanted, rtol=1e-3, atol=1e-4)))

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == []


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_loaded_model_is_not_pickled_and_the_error_says_what_to_send(bundle_path, way):
    with load(bundle_path) as model, pytest.raises(EdgepackError, match="can be neither pickled nor copied") as caught:
        way(model)
    assert "send the path of the bundle" in caught.value.hint


def test_wrong_inputs_are_named(bundle_path):
    with load(bundle_path) as model, pytest.raises(DataError, match="missing inputs: image"):
        model.infer({})


def test_an_opened_bundle_is_checked_again_when_it_is_loaded(bundle_path, tmp_path):
    path = Path(shutil.copy(bundle_path, tmp_path))
    bundle = open_bundle(path)
    data = bytearray(path.read_bytes())
    data[bundle.members["model/onnxruntime/model.onnx"].offset + 300] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        load(bundle)


def test_nothing_of_a_damaged_bundle_reaches_the_engine(bundle_path, tmp_path, monkeypatch):
    def engine(*_):
        pytest.fail("the engine was given a file")

    monkeypatch.setattr("edgepack.engines.onnxruntime.engine.load_model", engine)
    monkeypatch.setattr("edgepack.runtime.load.unpack", engine)
    bundle = open_bundle(bundle_path)
    for name in ("golden.npz", "sbom.cdx.json", "model/onnxruntime/model.onnx"):
        data = bytearray(bundle_path.read_bytes())
        data[bundle.members[name].offset + 100] ^= 1
        (tmp_path / "damaged.edgepack").write_bytes(data)
        with pytest.raises(IntegrityError):
            load(tmp_path / "damaged.edgepack")


def test_a_model_that_is_damaged(tmp_path):
    from edgepack.bundle.pack import pack

    compiled = small_compiled(tmp_path / "compiled")
    golden = small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz")
    other = dataclasses.replace(compiled, entry="model.bin", files=("model.bin",))
    (compiled.folder / "model.bin").write_bytes(b"no model at all")
    path = pack(other, golden, small_facts(), tmp_path)
    with pytest.raises(CompileError, match=r"model\.bin: not an ONNX file"):
        load(path, allow_native=True)


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="no file"):
        load(tmp_path / "absent.edgepack")


# --- what a host must have --------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(bundle_path):
    return open_bundle(bundle_path).manifest


def needing(manifest, **changes):
    needs = Requirements(**{"arch": None, "isa": (), "engine": {}, **changes})
    return dataclasses.replace(manifest, requirements=needs)


def test_another_architecture(manifest):
    with pytest.raises(ToolchainError, match=r"built for riscv64 .* this machine is"):
        choose_payload(needing(manifest, arch="riscv64"), host_facts())
    choose_payload(needing(manifest, arch=host_facts().arch), host_facts())


def test_missing_instructions(manifest):
    host = dataclasses.replace(host_facts(), isa=("avx2",))
    with pytest.raises(ToolchainError, match="needs the instructions avx512_vnni, amx_int8 that"):
        choose_payload(needing(manifest, isa=("avx2", "avx512_vnni", "amx_int8")), host)
    choose_payload(needing(manifest, isa=("avx2",)), host)


def test_an_engine_that_is_too_old(manifest):
    with pytest.raises(ToolchainError, match=r"onnxruntime .* is older than the 99\.1") as caught:
        choose_payload(needing(manifest, engine={"onnxruntime": "99.1"}), host_facts())
    assert caught.value.hint == "pip install --upgrade 'onnxruntime>=99.1'"
    choose_payload(needing(manifest, engine={"onnxruntime": "1.0", "openvino": "9999"}), host_facts())


def test_the_first_payload_that_can_run_is_taken_and_why_is_said(manifest, monkeypatch):
    def absent():
        raise ToolchainError("OpenVINO is not installed", hint="pip install 'edgepack[openvino]'")

    monkeypatch.setattr("edgepack.engines.openvino.engine.versions", absent)
    others = [Payload(name, "CPU", "fp32", "model/x", ("model/x",)) for name in ("dreamengine", "openvino")]
    several = dataclasses.replace(manifest, payloads=(*others, *manifest.payloads))
    payload, versions, skipped = choose_payload(several, host_facts())
    assert payload.backend == "onnxruntime"
    assert "onnxruntime" in versions
    assert skipped == ("this edgepack has no backend 'dreamengine'", "OpenVINO is not installed")
    with pytest.raises(ToolchainError, match=r"dreamengine.*; OpenVINO is not installed"):
        choose_payload(dataclasses.replace(manifest, payloads=tuple(others)), host_facts())


def test_no_engine_is_installed(bundle_path, monkeypatch):
    def absent():
        raise ToolchainError("ONNX Runtime is not installed", hint="pip install 'edgepack[onnxruntime]'")

    monkeypatch.setattr("edgepack.engines.onnxruntime.engine.versions", absent)
    with pytest.raises(ToolchainError, match="not installed") as caught:
        load(bundle_path)
    assert (caught.value.exit_code, caught.value.hint) == (3, "pip install 'edgepack[onnxruntime]'")


def test_the_device_needs_numpy_and_its_engine_only(bundle_path):
    """Load and verify in a process that cannot import anything of the builder."""
    code = """
import sys
from pathlib import Path
banned = ("rich", "onnx", "torch", "scipy", "msgspec", "jinja2", "PIL", "openvino", "onnxslim", "hypothesis")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in banned:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from pathlib import Path
from edgepack.runtime.verify import verify
from edgepack.cli.main import cli
assert verify(Path(sys.argv[1])).passed
try:
    cli.main(["inspect", sys.argv[1]])
except SystemExit as end:
    assert end.code in (0, None), end.code
print(sorted(set(banned) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code, bundle_path], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_two_models_at_once(tmp_path, bundle_path, feed):
    other = small_bundle(tmp_path, name="other")
    with load(bundle_path) as first, load(other) as second, load(bundle_path) as third:
        outputs = [model.infer(feed)["scores"] for model in (first, second, third)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
