"""What is particular to ONNX Runtime: kernels, large weights, 16-bit graphs, its devices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import onnx
import onnx.reference
import pytest
from backend_models import BFLOAT16, FLOAT, FLOAT16, INT64, MODELS, make, save
from onnx import helper

from edgepack.engines import get_backend
from edgepack.engines.common import installed, weights
from edgepack.engines.onnxruntime import engine as onnxruntime
from edgepack.engines.onnxruntime.supported import missing_kernels
from edgepack.errors import CompileError, ConfigError, ToolchainError
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TARGET = Target("test", "test", "onnxruntime", "x86_64")


# --- finding it -------------------------------------------------------------------------------------------------------


def test_an_unknown_backend_is_answered_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'onnxrutime'") as caught:
        get_backend("onnxrutime")
    assert caught.value.hint == "did you mean 'onnxruntime'?"


def test_an_engine_that_is_not_there_is_told_with_its_command() -> None:
    with pytest.raises(ToolchainError, match="Nothing is not installed") as caught:
        installed.engine_version("Nothing", "nothing", "no_such_module_here", "no-such-distribution")
    assert caught.value.hint == "pip install 'edgepack[nothing]'"
    assert caught.value.exit_code == 3


def test_a_version_is_known_without_metadata() -> None:
    assert installed.engine_version("NumPy", "x", "numpy", "no-such-distribution") == np.__version__


def test_an_engine_whose_library_is_missing_is_told_to_be_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_engine_a.py").write_text("import library_that_it_needs")
    (tmp_path / "broken_engine_b.py").write_text("raise OSError('libx.so: no such file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("broken_engine_a", "broken_engine_b"):
        with pytest.raises(ToolchainError, match="installed but does not load") as caught:
            installed.import_engine("Broken", "broken", name)
        assert "--force-reinstall" in caught.value.hint


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


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_a_float16_graph_is_taken(tmp_path: Path) -> None:
    assert onnxruntime.check(save(backend_models.half(FLOAT16), tmp_path / "m.onnx"), TARGET) == []


def test_the_nodes_without_a_bfloat16_kernel_are_named(tmp_path: Path) -> None:
    found = onnxruntime.check(save(backend_models.half(BFLOAT16), tmp_path / "m.onnx"), TARGET)
    assert {d.node for d in found} >= {"first", "fifth"}
    assert any("no Conv for tensor(bfloat16)" in d.message for d in found)
    assert {d.severity for d in found} == {"error"}


def _inner_unknown() -> onnx.ModelProto:
    proto = MODELS["branches"]()
    node = proto.graph.node[0]
    then = next(a.g for a in node.attribute if a.name == "then_branch")
    then.node[-1].op_type, then.node[-1].name = "Frobnicate", "inside"
    return proto


def _string_relu() -> onnx.ModelProto:
    return make([helper.make_node("Abs", ["x"], ["y"], "abs")], [("x", 8, ["N"])], [("y", 8, ["N"])])


@pytest.mark.parametrize(
    ("build", "node", "words"),
    [
        (_inner_unknown, "inside", "does not know the operator Frobnicate"),
        (_string_relu, "abs", "no Abs for tensor(string)"),
    ],
)
def test_nodes_are_found_wherever_they_are(
    build: Callable[[], onnx.ModelProto], node: str, words: str, tmp_path: Path
) -> None:
    found = missing_kernels(save(build(), tmp_path / "m.onnx").path)
    assert [(d.node, words in d.message) for d in found] == [(node, True)]


def test_an_operator_that_is_a_function_of_others_is_taken(tmp_path: Path) -> None:
    """MeanVarianceNormalization and the like have no kernel for every type, but a body that is inlined."""
    nodes = [helper.make_node("CenterCropPad", ["x", "s"], ["y"], axes=[0])]
    proto = make(nodes, [("x", FLOAT, ["N", 3])], [("y", FLOAT, [2, 3])], {"s": np.array([2])}, opset=18)
    assert onnxruntime.check(save(proto, tmp_path / "m.onnx"), TARGET) == []


def test_a_local_function_is_taken(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        g (float[N] x) => (float[N] y) { y = mine.twice(x) }
        <domain: "mine", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
    model = save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert onnxruntime.check(model, TARGET) == []
    compiled = onnxruntime.compile_model(model, TARGET, "fp32", tmp_path / "out")
    output = onnxruntime.load_model(compiled, RunOptions(threads=1)).infer({"x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(output["y"], [2, 2, 2])


def test_contributed_operators_are_taken(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    proto = make([node], [("x", FLOAT, ["N"])], [("y", FLOAT, ["N"])], domains=["com.microsoft"])
    assert onnxruntime.check(save(proto, tmp_path / "m.onnx"), TARGET) == []


def test_the_real_models_have_all_their_kernels(assets: Path) -> None:
    for path in sorted(assets.glob("*.onnx")):
        assert missing_kernels(path) == []


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
