"""Verification: a good bundle passes anywhere, a bundle whose model differs from its golden vectors does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_bundles import TARGET, small_bundle, small_bundle_of_two, small_compiled, small_facts, small_golden

from edgepack.bundle.pack import pack
from edgepack.device.host import host_facts
from edgepack.engines import get_backend
from edgepack.errors import BundleError
from edgepack.execution import child
from edgepack.graph.load import load_model
from edgepack.runtime.verify import verify
from edgepack.specs.bundle import MeasuredAccuracy
from edgepack.specs.run import RunOptions, Verification
from edgepack.verify.distance import distances
from edgepack.verify.golden import Golden, GoldenBatch, read_golden, with_tolerance, write_golden
from edgepack.verify.tolerance import Tolerance


def repack(tmp_path, golden, **facts):
    return pack(small_compiled(tmp_path / "compiled"), golden, small_facts(**facts), tmp_path)


def test_a_good_bundle(bundle_path):
    seen = []
    result = verify(bundle_path, RunOptions(threads=1), lambda *done: seen.append(done))
    assert result.passed
    assert result.samples == 2
    assert result.engine == "onnxruntime"
    assert result.versions == get_backend("onnxruntime").versions()
    assert result.isa == host_facts().isa
    assert result.note is None
    assert seen == [("verify", 1, 2), ("verify", 2, 2)]


def test_it_is_a_stage_that_runs_in_a_child(bundle_path, tmp_path):
    assert child.call(verify, bundle_path, RunOptions(), limit_s=60, log=tmp_path / "log").passed


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_every_engine_is_within_the_fp32_tolerance(backend, tmp_path):
    pytest.importorskip(backend)
    model = load_model(small_compiled(tmp_path / "onnx").folder / "model.onnx")
    target = dataclasses.replace(TARGET, backend=backend)
    compiled = get_backend(backend).compile_model(model, target, "fp32", tmp_path / "compiled")
    golden = small_golden(model.path, tmp_path / "golden.npz")
    result = verify(pack(compiled, golden, small_facts(), tmp_path))
    assert result.passed
    assert result.outputs[0].sqnr_db is None or result.outputs[0].sqnr_db > 90


def test_another_model_under_the_same_name_is_found(tmp_path):
    """The golden vectors are of weights that differ by one part in a hundred."""
    compiled = small_compiled(tmp_path / "compiled")
    vectors = read_golden(small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz"))
    outputs = tuple({"scores": sample["scores"] * np.float32(1.01)} for sample in vectors.outputs)
    golden = write_golden(dataclasses.replace(vectors, outputs=outputs), tmp_path / "golden.npz")
    result = verify(repack(tmp_path, golden))
    assert not result.passed
    assert result.outputs[0].sqnr_db == pytest.approx(40.09, abs=0.01)
    assert result.outputs[0].tolerance_sqnr_db == 60.0


def test_int8_is_held_to_what_its_build_measured(tmp_path):
    """10 % noise gives 20 dB at the build; the same device passes, one with three times the noise does not."""
    compiled = small_compiled(tmp_path / "compiled")
    plain = small_golden(compiled.folder / "model.onnx", tmp_path / "plain.npz", with_tolerance=False)
    exact = read_golden(plain)

    def reference(noise):
        factors = np.float32(1) / (np.float32(1) + np.float32(noise))
        return tuple({"scores": sample["scores"] * factors} for sample in exact.outputs)

    built = Golden(exact.inputs, reference(0.1))
    found = distances(built.outputs, exact.outputs, None)
    measured = Verification(True, found, 2, "onnxruntime", {}, ())
    golden = with_tolerance(write_golden(built, tmp_path / "g.npz"), measured, "int8", tmp_path / "out")
    assert read_golden(golden).tolerance["scores"].sqnr_db == pytest.approx(20 - 6.02, abs=0.01)
    int8 = dataclasses.replace(compiled, precision="int8")
    assert verify(pack(int8, golden, small_facts(precision="int8"), tmp_path)).passed
    worse = dataclasses.replace(read_golden(golden), outputs=reference(0.3))
    golden = write_golden(worse, tmp_path / "worse.npz")
    assert not verify(pack(int8, golden, small_facts(precision="int8"), tmp_path)).passed


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_another_instruction_set_is_said_where_it_matters(tmp_path, precision):
    isa = (*host_facts().isa, "future_vnni")[1:]
    measured = MeasuredAccuracy(None, 20.0, 0.99, 0.9, 10, "onnxruntime 1.31.1", isa)
    compiled = dataclasses.replace(small_compiled(tmp_path / "compiled"), precision=precision)
    golden = small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz")
    note = verify(pack(compiled, golden, small_facts(precision=precision, accuracy=measured), tmp_path)).note
    if precision == "fp32":
        assert note is None
    else:
        assert note is not None
        assert "lacks future_vnni and adds" in note


def test_every_payload_that_runs_here_is_verified(tmp_path):
    good = verify(small_bundle_of_two(tmp_path / "good", same=True))
    assert good.passed
    assert [output.way for output in good.outputs] == ["", "onnxruntime"]
    bad = verify(small_bundle_of_two(tmp_path / "bad", same=False))
    assert [output.passed for output in bad.outputs] == [True, False]
    assert not bad.passed


def test_an_engine_that_stands_in_for_another_is_named(tmp_path):
    """TensorRT is not here: its ONNX file is run by ONNX Runtime."""
    from jetson_bundles import jetson_bundle

    from edgepack.runtime.load import load

    path = jetson_bundle("dynamic-fp32", tmp_path, "nvidia-gpu")
    with load(path, RunOptions(device="CPU")) as model:
        assert model.backend == "onnxruntime"
        assert "run by onnxruntime instead" in model.notes
    assert "run by onnxruntime instead" in (verify(path, RunOptions(device="CPU")).note or "")


def test_a_batch_is_verified_too(tmp_path):
    """The golden vectors hold samples that are run at once; a model that mixes them up is found."""
    compiled = small_compiled(tmp_path / "compiled")
    vectors = read_golden(small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz"))
    right = np.concatenate([vectors.outputs[1]["scores"], vectors.outputs[0]["scores"]])
    for scores, passed in ((right, True), (right[::-1], False)):
        batches = (GoldenBatch((1, 0), {"scores": scores}),)
        golden = write_golden(dataclasses.replace(vectors, batches=batches), tmp_path / "batch.npz")
        result = verify(repack(tmp_path, golden))
        assert [output.batch for output in result.outputs] == [1, 2]
        assert result.passed == passed


def test_an_engine_that_is_loaded_for_a_batch_is_verified_in_both_ways(tmp_path):
    """OpenVINO is loaded for one sample, for any batch when another one comes, and for a batch that is measured."""
    pytest.importorskip("openvino")
    from small_bundles import small_onnx

    model = load_model(small_onnx(tmp_path / "onnx" / "model.onnx"))
    openvino = dataclasses.replace(TARGET, backend="openvino")
    compiled = get_backend("openvino").compile_model(model, openvino, "fp32", tmp_path / "compiled")
    vectors = read_golden(small_golden(model.path, tmp_path / "golden.npz"))
    scores = np.concatenate([vectors.outputs[i]["scores"] for i in (1, 0)])
    batches = (GoldenBatch((1, 0), {"scores": scores}),)
    golden = write_golden(dataclasses.replace(vectors, batches=batches), tmp_path / "batch.npz")
    result = verify(pack(compiled, golden, small_facts(), tmp_path))
    assert result.passed
    assert [(output.batch, output.way) for output in result.outputs] == [
        (1, ""),
        (2, ""),
        (1, "loaded for 2"),
        (2, "loaded for 2"),
    ]


@pytest.mark.parametrize("figures", [(-1e300, 0, 0), (12.0, 0, 0), (60.0, 1e300, 0), (60.0, 0, 1.0)])
def test_a_forged_tolerance_is_refused(tmp_path, figures):
    from edgepack.bundle import pack as packing

    compiled = small_compiled(tmp_path / "compiled")
    vectors = read_golden(small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz"))
    forged = dataclasses.replace(vectors, tolerance={"scores": Tolerance(*figures)})
    golden = write_golden(forged, tmp_path / "golden.npz")
    with pytest.raises(BundleError, match="allow the output 'scores'"):
        repack(tmp_path, golden)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "check_golden", lambda *_: None)
        path = repack(tmp_path, golden)
    with pytest.raises(BundleError, match="allow the output 'scores'"):
        verify(path)


def test_golden_vectors_that_do_not_fit_the_model(tmp_path):
    """A manifest may say anything, so that the vectors are compared with it before they are fed."""
    from edgepack.bundle import pack as packing

    compiled = small_compiled(tmp_path / "compiled")
    vectors = read_golden(small_golden(compiled.folder / "model.onnx", tmp_path / "golden.npz"))
    wide = tuple({"image": np.zeros((1, 3, 9, 9), np.float32)} for _ in vectors.inputs)
    golden = write_golden(dataclasses.replace(vectors, inputs=wide), tmp_path / "golden.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "check_golden", lambda *_: None)
        path = repack(tmp_path, golden)
    with pytest.raises(BundleError, match="do not fit the model"):
        verify(path)


def test_a_bundle_made_for_another_board_is_verified_here(tmp_path):
    board = dataclasses.replace(TARGET, id="raspberry-pi-5", arch="aarch64")
    assert verify(small_bundle(tmp_path, target=board)).passed


def test_real_models_on_both_engines(assets, tmp_path):
    """fp32 on two engines is within the tolerance on trained networks."""
    pytest.importorskip("openvino")
    from edgepack.data.samples import find_samples
    from edgepack.verify.make_golden import make_golden

    model = load_model(assets / "resnet20_cifar10.onnx")
    with np.load(assets / "cifar10_test_b.npz") as data:
        pictures = data["x"][:8].transpose(0, 3, 1, 2).astype(np.float32) / 255
    np.savez(tmp_path / "data.npz", **{model.inputs[0].name: (pictures - 0.45) / np.float32(0.22)})
    samples = find_samples(str(tmp_path / "data.npz"), model.inputs, None)
    plain = make_golden(model, samples, 4, tmp_path / "golden")
    for name in ("onnxruntime", "openvino"):
        backend = get_backend(name)
        target = dataclasses.replace(TARGET, backend=name)
        compiled = backend.compile_model(model, target, "fp32", tmp_path / name)
        runner = backend.load_model(compiled, RunOptions(threads=1))
        vectors = read_golden(plain)
        outputs = [{key: np.array(value) for key, value in runner.infer(f).items()} for f in vectors.inputs]
        runner.close()
        found = distances(vectors.outputs, outputs, None)
        measured = Verification(True, found, 4, name, backend.versions(), ())
        golden = with_tolerance(plain, measured, "fp32", tmp_path / f"{name}-golden")
        assert verify(pack(compiled, golden, small_facts(classes=()), tmp_path), RunOptions(threads=1)).passed
