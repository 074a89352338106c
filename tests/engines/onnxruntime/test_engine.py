"""What is particular to ONNX Runtime: kernels, large weights, 16-bit graphs, its devices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import captured_models
import numpy as np
import onnx
import onnx.reference
import pytest
from backend_models import FLOAT, INT64, MODELS, make, save
from onnx import helper

from edgepack.engines.common import weights
from edgepack.engines.onnxruntime import engine as onnxruntime
from edgepack.errors import CompileError, ToolchainError
from edgepack.execution import child
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target("test", "test", "onnxruntime", "x86_64")


# --- devices -------------------------------------------------------------------------------------------------------


def test_an_execution_provider_that_is_not_here_is_told(tmp_path: Path) -> None:
    target = dataclasses.replace(TARGET, engine=EngineFacts(device="CUDAExecutionProvider"))
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    assert onnxruntime.check(model, target) == []
    compiled = onnxruntime.compile_model(model, target, "fp32", tmp_path / "out")
    assert compiled.device == "CUDAExecutionProvider"
    with pytest.raises(ToolchainError, match=r"has no CUDAExecutionProvider; it has .*CPU"):
        onnxruntime.load_model(compiled, RunOptions())
    onnxruntime.load_model(compiled, RunOptions(device="CPU")).close()


def test_errors_are_not_printed_as_well(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    model.path.write_bytes(b"nothing")
    with pytest.raises(CompileError):
        onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_told_of_is_refused_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    compiled = onnxruntime.compile_model(save(MODELS["gemm"](), tmp_path / "m.onnx"), TARGET, "fp32", tmp_path / "out")
    path = tmp_path / "out" / compiled.entry
    path.write_bytes(path.read_bytes().replace(b"Tanh", b"T\xcd\xffh"))  # no UTF-8, in which ONNX Runtime names it
    with pytest.raises(CompileError, match="refused"):
        onnxruntime.load_model(compiled, RunOptions())
    assert capfd.readouterr().out == ""


# --- large weights ----------------------------------------------------------------------------------------------------


def large(layers: int = 3, side: int = 64) -> onnx.ModelProto:
    """Matrix products; each matrix but the last is of ``side`` squared float32 numbers, the last of float64 fields."""
    generator = np.random.default_rng(0)
    names = [f"a{i}" for i in range(layers + 1)]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], f"m{i}") for i in range(layers)]
    matrices = {f"w{i}": generator.standard_normal((side, side)).astype(np.float32) / side for i in range(layers)}
    matrices["tiny"] = np.float32(2).reshape(())
    nodes.append(helper.make_node("Mul", [names[-1], "tiny"], ["y"]))
    proto = make(nodes, [("a0", FLOAT, ["N", side])], [("y", FLOAT, ["N", side])], matrices)
    fields = helper.make_tensor("w0", FLOAT, (side, side), matrices["w0"].ravel().tolist())
    assert not fields.raw_data
    proto.graph.initializer[0].CopyFrom(fields)
    return proto


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as large."""
    monkeypatch.setattr(weights, "SEPARATE_ABOVE_BYTES", 1000)


def external(model: OnnxModel, folder: Path, one_file: bool) -> OnnxModel:
    """Return ``model`` with its weights in files of their own, as exporters write them."""
    folder.mkdir()
    proto = onnx.load(model.path)
    location = "weights.bin" if one_file else None
    onnx.save(
        proto, folder / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=one_file, location=location,
        size_threshold=0,
    )  # fmt: skip
    files = tuple(sorted(p.name for p in folder.iterdir() if p.name != "m.onnx"))
    size = sum(p.stat().st_size for p in folder.iterdir())
    return dataclasses.replace(model, path=folder / "m.onnx", external=files, size_bytes=size)


def run(model: OnnxModel, out: Path) -> tuple[tuple[str, ...], Any]:
    compiled = onnxruntime.compile_model(model, TARGET, "fp32", out)
    feeds = {"a0": np.ones((2, model.inputs[0].shape[1]), np.float32)}  # type: ignore[arg-type]
    return compiled.files, onnxruntime.load_model(compiled, RunOptions(threads=1)).infer(feeds)["y"]


def test_a_small_model_is_one_file_byte_for_byte(tmp_path: Path) -> None:
    model = save(large(), tmp_path / "m.onnx")
    files, _ = run(model, tmp_path / "out")
    assert files == ("model.onnx",)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == model.path.read_bytes()


@pytest.mark.usefixtures("low_limit")
def test_large_weights_are_aligned_in_a_file_of_their_own(tmp_path: Path) -> None:
    model = save(large(), tmp_path / "m.onnx")
    files, output = run(model, tmp_path / "out")
    assert files == ("model.onnx", "model.onnx.data")
    proto = onnx.load(tmp_path / "out" / "model.onnx", load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer}
    assert places["tiny"] == {}
    for name in ("w0", "w1", "w2"):
        assert int(places[name]["offset"]) % 16384 == 0
        assert int(places[name]["length"]) == 64 * 64 * 4
        assert places[name]["location"] == "model.onnx.data"
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 3000
    wanted = onnx.reference.ReferenceEvaluator(onnx.load(model.path)).run(None, {"a0": np.ones((2, 64), np.float32)})
    np.testing.assert_allclose(output, wanted[0], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("one_file", [True, False])
def test_external_weights_are_brought_into_the_same_form(one_file: bool, tmp_path: Path) -> None:
    inside = save(large(), tmp_path / "m.onnx")
    outside = external(inside, tmp_path / "external", one_file)
    _, first = run(inside, tmp_path / "a")
    files, second = run(outside, tmp_path / "b")
    assert files == ("model.onnx", "model.onnx.data")
    np.testing.assert_array_equal(first, second)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("one_file", [True, False])
def test_small_external_weights_come_into_the_one_file(one_file: bool, tmp_path: Path) -> None:
    inside = save(large(), tmp_path / "m.onnx")
    files, second = run(external(inside, tmp_path / "external", one_file), tmp_path / "b")
    assert files == ("model.onnx",)
    np.testing.assert_array_equal(run(inside, tmp_path / "a")[1], second)


@pytest.mark.usefixtures("low_limit")
def test_weights_inside_branches_come_into_the_message(tmp_path: Path) -> None:
    proto = MODELS["branches"]()
    then = next(a.g for a in proto.graph.node[0].attribute if a.name == "then_branch")
    then.initializer.append(onnx.numpy_helper.from_array(np.full(4, 3, np.float32), "inner"))
    then.node[1].input[1] = "inner"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2000, np.float32), "unused"))
    model = external(save(proto, tmp_path / "m.onnx"), tmp_path / "external", one_file=False)
    compiled = onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    runner = onnxruntime.load_model(compiled, RunOptions(threads=1))
    output = runner.infer({"x": np.ones((1, 4), np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(output["y"], [[3, 3, 3, 3]])


@pytest.mark.usefixtures("low_limit")
def test_a_weights_file_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    model = external(save(large(), tmp_path / "m.onnx"), tmp_path / "external", one_file=True)
    data = tmp_path / "external" / "weights.bin"
    data.write_bytes(data.read_bytes()[:10_000])
    with pytest.raises(CompileError, match="refused"):
        onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_strings_and_integers_go_through(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"])]
    proto = make(nodes, [("i", INT64, ["N"])], [("y", INT64, ["N"])], {"table": np.arange(10)})
    model = save(proto, tmp_path / "m.onnx")
    compiled = onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    output = onnxruntime.load_model(compiled, RunOptions(threads=1)).infer({"i": np.array([3, 1])})
    np.testing.assert_array_equal(output["y"], [3, 1])


# --- graphs of others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["../secret.bin", "/etc/hostname", "link.bin"])
def test_weights_in_other_files_are_refused(named: str, tmp_path: Path) -> None:
    """ONNX Runtime 1.20 opens them wherever they are, 1.31 the last of these."""
    compiled = onnxruntime.compile_model(save(large(), tmp_path / "m.onnx"), TARGET, "fp32", tmp_path / "out")
    proto = onnx.load(tmp_path / "out" / compiled.entry)
    tensor = proto.graph.initializer[1]
    assert tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=named)
    (tmp_path / "out" / compiled.entry).write_bytes(proto.SerializeToString())
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4 * 64 * 64)
    (tmp_path / "out" / "link.bin").write_bytes(b"\0" * 4 * 64 * 64)
    with pytest.raises(CompileError, match="which is not one of its files"):
        onnxruntime.load_model(compiled, RunOptions())


def test_a_models_own_files_are_read(tmp_path: Path, low_limit: None) -> None:
    compiled = onnxruntime.compile_model(save(large(), tmp_path / "m.onnx"), TARGET, "fp32", tmp_path / "out")
    assert len(compiled.files) == 2
    files = tuple(f"out/{name}" for name in compiled.files)  # in a bundle they are named with their folder
    compiled = dataclasses.replace(compiled, folder=tmp_path, entry=f"out/{compiled.entry}", files=files)
    runner = onnxruntime.load_model(compiled, RunOptions(threads=1))
    assert runner.infer({"a0": np.ones((1, 64), np.float32)})["y"].shape == (1, 64)
    runner.close()


@pytest.mark.parametrize("precision", ["int8", "fp32"])  # what a bundle says of itself
def test_captured_int8_tensors_do_not_end_the_process(precision: str, tmp_path: Path) -> None:
    assert child.call(captured_models.optimized_gap, tmp_path, precision, limit_s=100) < 1e-6


def test_a_damaged_graph_is_refused_by_name(tmp_path: Path) -> None:
    compiled = onnxruntime.compile_model(save(large(), tmp_path / "m.onnx"), TARGET, "fp32", tmp_path / "out")
    path = tmp_path / "out" / compiled.entry
    whole = path.read_bytes()
    for content in (b"", whole[:-5], b"\xba\x80\x80\x80\x20\x00"):  # of the last protobuf reads a graph
        path.write_bytes(content)
        with pytest.raises(CompileError, match=r"^model\.onnx: "):
            onnxruntime.load_model(compiled, RunOptions())


def test_int64_that_it_may_put_in_a_wrong_order_is_named(tmp_path: Path) -> None:
    node = helper.make_node("ReduceMax", ["x", "axes"], ["y"], "most")
    stored = {"axes": np.array([0])}
    proto = make([node], [("x", INT64, ["N"])], [("y", INT64, ["M"])], stored, opset=18)
    assert onnxruntime.check(save(proto, tmp_path / "stored.onnx"), TARGET) == []  # building writes it otherwise
    proto = make([node], [("x", INT64, ["N"]), ("axes", INT64, [1])], [("y", INT64, ["M"])], opset=18)
    (found,) = onnxruntime.check(save(proto, tmp_path / "computed.onnx"), TARGET)
    assert (found.severity, found.node) == ("warning", "most")
    assert "int64 beyond 2^31" in found.message
