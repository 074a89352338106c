"""What every engine's module promises, on small models of every kind."""

from __future__ import annotations

import dataclasses
import gc
import types
from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import onnx
import onnxruntime
import pytest
from backend_models import FLOAT, INT64, MODELS, make, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.base import documents
from edgepack.errors import CompileError, DataError, EdgepackError, ToolchainError
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepack.engines import Backend, Runner

    Load = Callable[..., Runner]

pytestmark = pytest.mark.slow

# A step of the quantized model's output scale where rounding differs; float32 noise; half of float16's 11 bits.
TOLERANCE = {"quantized": 0.05 * 1.01, "half": 4e-3}


def expected(proto: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    names = [value.name for value in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(None, feeds), strict=True))


# --- it computes what the model says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODELS))
def test_outputs_agree_with_the_reference_evaluator(name: str, load: Load) -> None:
    precision = {"quantized": "int8", "half": "fp16"}.get(name, "fp32")
    runner = load(name, precision)
    feeds = backend_models.feeds(name)
    outputs = runner.infer(feeds)
    for output, wanted in expected(MODELS[name](), feeds).items():
        assert outputs[output].dtype == wanted.dtype
        np.testing.assert_allclose(outputs[output], wanted, atol=TOLERANCE.get(name, 1e-5), rtol=1e-5)
    assert list(outputs) == [value.name for value in MODELS[name]().graph.output]


@pytest.mark.parametrize("name", ["conv", "several", "quantized"])
def test_the_batch_may_change_from_call_to_call(name: str, load: Load) -> None:
    runner = load(name)
    for batch in (1, 5, 2, 64, 1):
        feeds = backend_models.feeds(name, batch)
        for output, wanted in expected(MODELS[name](), feeds).items():
            np.testing.assert_allclose(runner.infer(feeds)[output], wanted, atol=TOLERANCE.get(name, 1e-5), rtol=1e-5)


def test_fp32_is_computed_in_fp32(load: Load) -> None:
    # 1 + 2^-12 is 1 in bfloat16 and float16: any lower precision on the way gives 0.
    ones = np.ones((16, 16), np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Sub", ["m", "sixteen"], ["y"])]
    weights = {"w": ones, "sixteen": np.float32(16).reshape(())}
    runner = load(make(nodes, [("x", FLOAT, ["N", 16])], [("y", FLOAT, ["N", 16])], weights))
    x = np.full((4, 16), 1 + 2**-12, np.float32)
    np.testing.assert_allclose(runner.infer({"x": x})["y"], np.full((4, 16), 2**-8), rtol=1e-3)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_the_number_of_threads_does_not_change_the_result(threads: int | None, load: Load) -> None:
    feeds = backend_models.feeds("conv", 3)
    outputs = load("conv", options=RunOptions(threads=threads)).infer(feeds)
    np.testing.assert_allclose(outputs["scores"], expected(MODELS["conv"](), feeds)["scores"], atol=1e-5)


def test_the_throughput_hint_computes_the_same(load: Load) -> None:
    feeds = backend_models.feeds("conv", 3)
    outputs = load("conv", options=RunOptions(threads=1, hint="throughput")).infer(feeds)
    np.testing.assert_allclose(outputs["scores"], expected(MODELS["conv"](), feeds)["scores"], atol=1e-5)


def test_an_input_may_be_an_output_and_an_output_unused(load: Load) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["same"])]
    inputs = [("x", FLOAT, ["N", 2]), ("spare", FLOAT, ["N", 2])]
    proto = make(nodes, inputs, [("same", FLOAT, ["N", 2]), ("y", FLOAT, ["N", 2])])
    x = np.array([[-1, 2]], np.float32)
    outputs = load(proto).infer({"x": x, "spare": x})
    np.testing.assert_array_equal(outputs["same"], x)
    np.testing.assert_array_equal(outputs["y"], [[0, 2]])


def test_a_tensor_and_its_copy_may_both_be_outputs(load: Load) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["y"], ["copy"])]
    proto = make(nodes, [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", 2]), ("copy", FLOAT, ["N", 2])])
    runner = load(proto)
    for batch in (1, 3):
        outputs = runner.infer({"x": np.array([[-1, 2]] * batch, np.float32)})
        assert list(outputs) == ["y", "copy"]
        np.testing.assert_array_equal(outputs["y"], [[0, 2]] * batch)
        np.testing.assert_array_equal(outputs["copy"], [[0, 2]] * batch)


@pytest.mark.parametrize("signs", [(1, 1), (0, 1), (1, 0)])
def test_infinities_of_one_sign_are_told_apart(signs: tuple[int, int], load: Load) -> None:
    node = helper.make_node("IsInf", ["x"], ["y"], detect_negative=signs[0], detect_positive=signs[1])
    proto = make([node], [("x", FLOAT, ["N", 4])], [("y", TensorProto.BOOL, ["N", 4])], opset=20)
    x = np.array([[1, np.inf, -np.inf, 0]], np.float32)
    np.testing.assert_array_equal(load(proto).infer({"x": x})["y"], [[False, signs[1], signs[0], False]])


def test_sizes_may_be_an_output(load: Load) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["sizes"], start=1)]
    proto = make(nodes, [("x", FLOAT, ["N", 2])], [("y", FLOAT, ["N", 2]), ("sizes", INT64, [1])])
    outputs = load(proto).infer({"x": np.array([[-1, 2]], np.float32)})
    np.testing.assert_array_equal(outputs["sizes"], [2])


@pytest.mark.parametrize("kind", [FLOAT, INT64, TensorProto.FLOAT16])
def test_outputs_have_the_promised_type(kind: int, load: Load) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    stored = {"depth": np.array(5), "values": np.array([0, 1], dtype)}
    one_hot = helper.make_node("OneHot", ["x", "depth", "values"], ["y"], axis=1)
    proto = make([one_hot], [("x", INT64, ["N", 3])], [("y", kind, ["N", 5, 3])], stored)
    feeds = {"x": np.array([[0, 4, 2]])}
    found = load(proto).infer(feeds)["y"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected(proto, feeds)["y"])


def test_files_that_return_another_type_are_refused(backend: Backend, target: Target, tmp_path: Path) -> None:
    proto = make([helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, ["N", 5])], [("y", FLOAT, ["N", 5])])
    compiled = backend.compile_model(save(proto, tmp_path / "m.onnx"), target, "fp32", tmp_path / "out")
    promised = (dataclasses.replace(compiled.outputs[0], dtype="float64"),)
    with pytest.raises(CompileError, match=r"as float32, not as float64|y \(float32\), not y \(float64\)"):
        backend.load_model(dataclasses.replace(compiled, outputs=promised), RunOptions())


def test_one_hot_may_be_computed_with(load: Load) -> None:
    nodes = [helper.make_node("OneHot", ["x", "depth", "values"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    stored = {"depth": np.array(5), "values": np.array([0, 1], np.float32), "w": backend_models._random(0, 5, 2)}
    proto = make(nodes, [("x", INT64, ["N", 3])], [("y", FLOAT, ["N", 3, 2])], stored)
    feeds = {"x": np.array([[0, 4, 2]])}
    np.testing.assert_allclose(load(proto).infer(feeds)["y"], expected(proto, feeds)["y"], rtol=1e-5)


BOUNDS = {"low": np.float32(-1).reshape(()), "high": np.float32(1).reshape(()), "zeros": np.zeros(5, np.float32)}
# Operators that choose one of several values: its inputs, its attributes.
CHOOSING: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "relu": ("Relu", ["x"], {}),
    "clip": ("Clip", ["x", "low", "high"], {}),
    "clip below": ("Clip", ["x", "low"], {}),
    "max": ("Max", ["x", "zeros"], {}),
    "max of constant first": ("Max", ["zeros", "x"], {}),
    "max of two": ("Max", ["x", "z"], {}),
    "min": ("Min", ["x", "zeros"], {}),
    "min of two": ("Min", ["z", "x"], {}),
    "largest": ("ReduceMax", ["x"], {"axes": [1], "keepdims": 0}),
    "smallest": ("ReduceMin", ["x"], {"axes": [1]}),
    "elu": ("Elu", ["x"], {}),
    "hard sigmoid": ("HardSigmoid", ["x"], {}),
    "exp": ("Exp", ["x"], {}),
    "sigmoid": ("Sigmoid", ["x"], {}),
    "softmax": ("Softmax", ["x"], {}),
}
# Where an engine makes numbers of NaN; docs/engines/ say so.
SWALLOWS_NAN = {
    "openvino": frozenset(
        {"relu", "clip", "clip below", "max", "max of two", "min", "min of two", "largest", "smallest", "exp"}
        | {"hard sigmoid", "softmax"}
    )
}


def choosing(name: str) -> onnx.ModelProto:
    operator, inputs, attributes = CHOOSING[name]
    made = [("x", FLOAT, ["N", 5])] + ([("z", FLOAT, ["N", 5])] if "z" in inputs else [])
    shape = {"largest": ["N"], "smallest": ["N", 1]}.get(name, ["N", 5])
    stored = {key: value for key, value in BOUNDS.items() if key in inputs}
    return make([helper.make_node(operator, inputs, ["y"], **attributes)], made, [("y", FLOAT, shape)], stored)


def reference(proto: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(["y"], feeds)[0]


def values(proto: onnx.ModelProto, *numbers: float) -> dict[str, Any]:
    x = np.array([numbers], np.float32)
    return {"x": x, "z": x[:, ::-1].copy()} if len(proto.graph.input) == 2 else {"x": x}


@pytest.mark.parametrize("name", sorted(CHOOSING))
def test_infinities_are_what_onnx_runtime_makes_of_them(name: str, load: Load) -> None:
    proto = choosing(name)
    runner = load(proto)
    for infinite in (-np.inf,) if name == "softmax" else (np.inf, -np.inf):  # what softmax makes of inf is NaN
        feeds = values(proto, infinite, -2, 0.5, 3, 0)
        found, wanted = runner.infer(feeds)["y"], reference(proto, feeds)
        largest = np.finfo(np.float32).max  # a bound that is left out is the largest number to some, none to others
        np.testing.assert_allclose(np.clip(found, -largest, largest), np.clip(wanted, -largest, largest), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(CHOOSING))
def test_nan_stays_nan_or_the_documentation_says_so(name: str, engine: str, load: Load) -> None:
    """In every place, since which of two values is chosen may depend on their order, and in vectors and their rest."""
    proto = choosing(name)
    found = load(proto)
    lost = False
    for position in range(5):
        numbers = [-2.0, 0.5, 3.0, 0.0, 1.0]
        numbers[position] = np.nan
        feeds = values(proto, *numbers)
        lost |= bool((np.isnan(reference(proto, feeds)) & ~np.isnan(found.infer(feeds)["y"])).any())
    assert lost == (name in SWALLOWS_NAN.get(engine, ()))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_outputs_outlive_later_calls_and_the_runner(load: Load) -> None:
    runner = load("conv")
    first = runner.infer(backend_models.feeds("conv"))["scores"]
    copy = first.copy()
    for _ in range(3):
        runner.infer({"image": np.full((500, 3, 12, 12), 9, np.float32)})
    runner.close()
    gc.collect()
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize("operator", ["Relu", "Neg", "Softmax"])
def test_inputs_are_not_written_to(operator: str, load: Load) -> None:
    runner = load(make([helper.make_node(operator, ["x"], ["y"])], [("x", FLOAT, ["N", 8])], [("y", FLOAT, ["N", 8])]))
    x = backend_models._random(0, 32, 8)
    before = x.copy()
    for _ in range(3):
        runner.infer({"x": x})
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(np.asfortranarray, id="fortran-order"),
        pytest.param(lambda a: np.repeat(a, 2, axis=3)[..., ::2], id="strided"),
        pytest.param(lambda a: a[:, ::-1][:, ::-1], id="view"),
        pytest.param(lambda a: np.broadcast_to(a[:1], a.shape), id="broadcast"),
    ],
)
def test_arrays_of_every_memory_layout_are_taken(layout: Callable[[Any], Any], load: Load) -> None:
    runner = load("conv")
    image = layout(np.repeat(backend_models.feeds("conv")["image"], 4, axis=0))
    wanted = expected(MODELS["conv"](), {"image": np.ascontiguousarray(image)})
    np.testing.assert_allclose(runner.infer({"image": image})["scores"], wanted["scores"], atol=1e-5)


def test_read_only_and_mapped_arrays_are_taken(load: Load, tmp_path: Path) -> None:
    feeds = backend_models.feeds("conv", 2)
    np.save(tmp_path / "image.npy", feeds["image"])
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    fixed = feeds["image"].copy()
    fixed.flags.writeable = False
    runner = load("conv")
    wanted = runner.infer(feeds)["scores"]
    np.testing.assert_array_equal(runner.infer({"image": mapped})["scores"], wanted)
    np.testing.assert_array_equal(runner.infer({"image": fixed})["scores"], wanted)


def test_an_empty_batch_gives_empty_outputs(load: Load) -> None:
    runner = load(make([helper.make_node("Relu", ["x"], ["y"])], [("x", FLOAT, ["N", 8])], [("y", FLOAT, ["N", 8])]))
    assert runner.infer({"x": np.empty((0, 8), np.float32)})["y"].shape == (0, 8)


def test_any_mapping_is_taken(load: Load) -> None:
    feeds = backend_models.feeds("conv")
    runner = load("conv")
    wanted = runner.infer(feeds)["scores"]
    np.testing.assert_array_equal(runner.infer(types.MappingProxyType(feeds))["scores"], wanted)


# --- wrong inputs -----------------------------------------------------------------------------------------------------

IMAGE = np.zeros((1, 3, 12, 12), np.float32)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        pytest.param({}, "missing inputs: image", id="none"),
        pytest.param({"imag": IMAGE}, "missing inputs: image", id="other-name"),
        pytest.param({"image": IMAGE, "extra": IMAGE}, "unknown inputs: extra", id="one-too-many"),
        pytest.param({"image": IMAGE.astype(np.float64)}, "has type float64, not float32", id="float64"),
        pytest.param({"image": IMAGE.astype(np.uint8)}, "has type uint8, not float32", id="uint8"),
        pytest.param({"image": IMAGE.astype(">f4")}, "in another byte order", id="big-endian"),
        pytest.param({"image": IMAGE.tolist()}, "is a list, not a numpy array", id="list"),
        pytest.param({"image": IMAGE[0]}, "has 3 dimensions", id="no-batch-axis"),
        pytest.param({"image": IMAGE[:, :1]}, r"has shape \[1, 1, 12, 12\], not \[N, 3, 12, 12\]", id="channels"),
        pytest.param({"image": None}, "is a NoneType, not a numpy array", id="nothing"),
        pytest.param({"image": np.array("cat")}, "has type str", id="text"),
        pytest.param({"image": IMAGE.astype(object)}, "has type object, not float32", id="objects"),
        pytest.param([IMAGE], "given by name, not as a list", id="a-list-of-arrays"),
        pytest.param(IMAGE, "given by name, not as a ndarray", id="an-array"),
        pytest.param(None, "given by name, not as a NoneType", id="no-feeds"),
        pytest.param(types.MappingProxyType({"imag": IMAGE}), "missing inputs: image", id="mapping-with-other-name"),
    ],
)
def test_wrong_inputs_are_named(feeds: Any, message: str, load: Load) -> None:
    runner = load("conv")
    good = backend_models.feeds("conv")
    before = runner.infer(good)["scores"]
    with pytest.raises(DataError, match=message) as caught:
        runner.infer(feeds)
    assert "image" in str(caught.value.hint)
    np.testing.assert_array_equal(runner.infer(good)["scores"], before)


def test_a_fixed_batch_is_named(load: Load) -> None:
    with pytest.raises(DataError, match=r"input 'x' has shape \[3, 16\], not \[2, 16\]"):
        load("gemm").infer({"x": np.zeros((3, 16), np.float32)})


def test_inputs_that_disagree_on_a_free_dimension_are_named(load: Load) -> None:
    feeds = backend_models.feeds("several", 2)
    feeds["a mask/0"] = np.ones((3, 6), bool)
    with pytest.raises(DataError, match=r"'a mask/0' has N = 3, but 'x:0' has N = 2"):
        load("several").infer(feeds)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_shape_that_only_the_engine_refuses_is_told_with_its_words(threads: int, load: Load) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"], "to_four")]
    proto = make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, [1, 4])], {"shape": np.array([1, 4])})
    runner = load(proto, options=RunOptions(threads=threads))
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(runner.infer({"x": x})["y"], x)
    with pytest.raises(DataError, match=r"could not run these inputs \(x \[3, 4\]\)"):
        runner.infer({"x": np.zeros((3, 4), np.float32)})
    np.testing.assert_array_equal(runner.infer({"x": x})["y"], x)


# --- closing ----------------------------------------------------------------------------------------------------------


def test_a_closed_runner_says_so(load: Load) -> None:
    runner = load("conv")
    runner.close()
    runner.close()
    with pytest.raises(EdgepackError, match="closed"):
        runner.infer(backend_models.feeds("conv"))


# --- compiling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODELS))
def test_two_compiles_give_the_same_bytes(name: str, backend: Backend, target: Target, tmp_path: Path) -> None:
    model = save(MODELS[name](), tmp_path / "source.onnx")
    other = save(MODELS[name](), tmp_path / "elsewhere" / "renamed.onnx")
    first = backend.compile_model(model, target, "fp32", tmp_path / "a")
    second = backend.compile_model(other, target, "fp32", tmp_path / "b" / "deep")
    assert first.files == second.files
    for file in first.files:
        assert (first.folder / file).read_bytes() == (second.folder / file).read_bytes()
        assert str(tmp_path).encode() not in (first.folder / file).read_bytes()


def test_only_the_files_named_are_written(backend: Backend, target: Target, tmp_path: Path) -> None:
    model = save(MODELS["conv"](), tmp_path / "source.onnx")
    compiled = backend.compile_model(model, target, "fp32", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(compiled.files)
    assert compiled.entry in compiled.files
    assert (compiled.inputs, compiled.outputs) == (model.inputs, model.outputs)
    assert compiled.versions == backend.versions()


def test_a_compiled_model_survives_a_document(backend: Backend, target: Target, tmp_path: Path) -> None:
    compiled = backend.compile_model(save(MODELS["conv"](), tmp_path / "m.onnx"), target, "fp32", tmp_path / "out")
    text = documents.to_json(compiled, tmp_path)
    assert documents.from_json(CompiledModel, text, "test", tmp_path) == compiled


def test_check_finds_nothing_in_good_models(backend: Backend, target: Target, tmp_path: Path) -> None:
    for name, build in MODELS.items():
        assert backend.check(save(build(), tmp_path / f"{name}.onnx"), target) == []


def _unknown_operator() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["a"], "fine"), helper.make_node("Frobnicate", ["a"], ["y"], "strange")]
    return make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])])


def _unknown_domain() -> onnx.ModelProto:
    node = helper.make_node("Frobnicate", ["x"], ["y"], "strange", domain="com.example")
    return make([node], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])], domains=["com.example"])


def _impossible_shapes() -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    return make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])], {"w": np.ones((5, 4), np.float32)})


@pytest.mark.parametrize("build", [_unknown_operator, _unknown_domain])
def test_check_names_the_node_that_will_be_refused(
    build: Callable[[], onnx.ModelProto], backend: Backend, target: Target, tmp_path: Path
) -> None:
    found = backend.check(save(build(), tmp_path / "m.onnx"), target)
    assert [d.severity for d in found] == ["error"]
    assert "Frobnicate" in found[0].message
    assert found[0].node in ("strange", "y")


@pytest.mark.parametrize("build", [_unknown_operator, _unknown_domain, _impossible_shapes])
def test_compile_refuses_with_the_engines_words(
    build: Callable[[], onnx.ModelProto], backend: Backend, target: Target, tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match=r"refused m\.onnx"):
        backend.compile_model(save(build(), tmp_path / "m.onnx"), target, "fp32", tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


DAMAGED = [b"", b"not a model at all", b"\x08\x08\x3a\xff\xff\xff\x07"]


@pytest.mark.parametrize("data", DAMAGED)
def test_check_of_a_damaged_file_is_an_error_and_no_exception(
    data: bytes, backend: Backend, target: Target, tmp_path: Path
) -> None:
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    model.path.write_bytes(data)
    assert [d.severity for d in backend.check(model, target)] == ["error"]


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged_files_are_refused(data: bytes, backend: Backend, target: Target, tmp_path: Path) -> None:
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    model.path.write_bytes(data)
    with pytest.raises(CompileError, match=r"refused|^m\.onnx: "):
        backend.compile_model(model, target, "fp32", tmp_path / "out")


def test_an_opset_above_the_devices_is_an_error(backend: Backend, engine: str, tmp_path: Path) -> None:
    old = Target("old-board", "old", engine, "x86_64", engine=EngineFacts(max_opset=13))
    found = backend.check(save(MODELS["conv"](), tmp_path / "m.onnx"), old)
    assert [(d.severity, "opset 17" in d.message, "opset 13" in str(d.hint)) for d in found] == [("error", True, True)]


# --- loading ----------------------------------------------------------------------------------------------------------


def _compiled(backend: Backend, target: Target, tmp_path: Path) -> CompiledModel:
    return backend.compile_model(save(MODELS["conv"](), tmp_path / "m.onnx"), target, "fp32", tmp_path / "out")


def test_damaged_compiled_files_are_refused(backend: Backend, target: Target, tmp_path: Path) -> None:
    compiled = _compiled(backend, target, tmp_path)
    path = compiled.folder / compiled.entry
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CompileError, match=r"refused|^model\.onnx: "):
        backend.load_model(compiled, RunOptions())


def test_missing_compiled_files_are_named(backend: Backend, target: Target, tmp_path: Path) -> None:
    compiled = _compiled(backend, target, tmp_path)
    for name in compiled.files:
        data = (compiled.folder / name).read_bytes()
        (compiled.folder / name).unlink()
        with pytest.raises(CompileError, match=rf"{name} is missing"):
            backend.load_model(compiled, RunOptions())
        (compiled.folder / name).write_bytes(data)


def test_files_of_another_model_are_refused(backend: Backend, target: Target, tmp_path: Path) -> None:
    compiled = _compiled(backend, target, tmp_path)
    other = make([helper.make_node("Relu", ["p"], ["q"])], [("p", FLOAT, ["N", 4])], [("q", FLOAT, ["N", 4])])
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    backend.compile_model(save(other, tmp_path / "other.onnx"), target, "fp32", tmp_path / "out")
    with pytest.raises(CompileError, match=r"not (image|scores)"):
        backend.load_model(compiled, RunOptions())


def test_a_device_that_is_not_here_is_told_with_those_that_are(
    backend: Backend, target: Target, tmp_path: Path
) -> None:
    compiled = _compiled(backend, target, tmp_path)
    with pytest.raises(ToolchainError, match=r"no NPU.*CPU"):
        backend.load_model(compiled, RunOptions(device="NPU"))
