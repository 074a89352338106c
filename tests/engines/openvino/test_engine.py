"""What is particular to OpenVINO: precisions, devices with fixed shapes, the batch, errors that it loses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backend_models
import numpy as np
import pytest
from backend_models import BFLOAT16, FLOAT, FLOAT16, MODELS, make, save

from edgepack.engines.common.fixed_batch import FixedBatchRunner
from edgepack.engines.openvino import engine as openvino
from edgepack.errors import CompileError, DataError, ToolchainError
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import EngineFacts, Target

if TYPE_CHECKING:
    from edgepack.specs.types import Precision

HELPERS = Path(__file__).resolve().parents[2] / "helpers"

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("test", "test", "openvino", "x86_64")
GPU = dataclasses.replace(CPU, engine=EngineFacts(device="GPU"))
NPU = dataclasses.replace(CPU, engine=EngineFacts(device="NPU"))


def compile_conv(tmp_path: Path, target: Target, precision: Precision = "fp32", kind: str = "conv") -> CompiledModel:
    return openvino.compile_model(save(MODELS[kind](), tmp_path / "m.onnx"), target, precision, tmp_path / "out")


# --- precision --------------------------------------------------------------------------------------------------------


class FakeCore:
    """TEST DOUBLE of ``openvino.Core``: a device with the capabilities given."""

    def __init__(self, *offered: str) -> None:
        self.offered = list(offered)

    def get_property(self, device: str, name: str) -> list[str]:
        assert name == "OPTIMIZATION_CAPABILITIES"
        return self.offered


ALL = FakeCore("FP32", "FP16", "BF16", "INT8")
OLD = FakeCore("FP32", "INT8", "BIN")


@pytest.mark.parametrize(
    ("core", "precision", "device", "hint"),
    [
        (ALL, "fp32", "CPU", "f32"),
        (ALL, "fp16", "CPU", "f16"),
        (ALL, "bf16", "CPU", "bf16"),
        (ALL, "int8", "CPU", "f32"),
        (ALL, "fp32", "GPU", "f32"),
        (ALL, "int8", "GPU.1", "f16"),
        (ALL, "int8", "NPU", None),
        (ALL, "fp16", "NPU", None),
        (OLD, "fp16", "CPU", "f32"),
        (OLD, "bf16", "CPU", "f32"),
        (OLD, "int8", "GPU", "f32"),
    ],
)
def test_the_precision_asked_for_is_told_to_the_device_that_offers_it(
    core: FakeCore, precision: Precision, device: str, hint: str | None
) -> None:
    assert openvino.device_settings(core, precision, device, RunOptions()).get("INFERENCE_PRECISION_HINT") == hint


def test_threads_are_of_the_cpu_only() -> None:
    assert openvino.device_settings(ALL, "fp32", "CPU", RunOptions(threads=3))["INFERENCE_NUM_THREADS"] == 3
    assert "INFERENCE_NUM_THREADS" not in openvino.device_settings(ALL, "fp32", "GPU", RunOptions(threads=3))
    assert "INFERENCE_NUM_THREADS" not in openvino.device_settings(ALL, "fp32", "CPU", RunOptions())


def executed(compiled: CompiledModel, kind: str) -> set[str]:
    """Return the precisions that layers of ``kind`` run in, by the engine's own runtime model."""
    import openvino as engine

    core = engine.Core()
    settings = openvino.device_settings(core, compiled.precision, "CPU", RunOptions(threads=1))
    model = core.compile_model(str(compiled.folder / compiled.entry), "CPU", settings)
    nodes = [node.get_rt_info() for node in model.get_runtime_model().get_ops()]
    return {str(i["runtimePrecision"].astype(str)) for i in nodes if i["layerType"].astype(str) == kind}


def test_fp32_layers_run_in_fp32_also_where_the_engine_would_take_less(tmp_path: Path) -> None:
    assert executed(compile_conv(tmp_path, CPU), "Convolution") == {"f32"}


def test_quantized_layers_run_in_int8(tmp_path: Path) -> None:
    assert executed(compile_conv(tmp_path, CPU, "int8", "quantized"), "Convolution") <= {"u8", "i8"}


@pytest.mark.parametrize(("precision", "kind", "name"), [("fp16", FLOAT16, "f16"), ("bf16", BFLOAT16, "bf16")])
def test_16_bit_graphs_run_in_16_bits_where_the_cpu_can(
    precision: Precision, kind: int, name: str, tmp_path: Path
) -> None:
    import openvino as engine

    model = save(backend_models.half(kind), tmp_path / "m.onnx")
    assert openvino.check(model, CPU) == []
    compiled = openvino.compile_model(model, CPU, precision, tmp_path / "out")
    runner = openvino.load_model(compiled, RunOptions(threads=1))
    feeds = backend_models.feeds("conv", 3)
    wanted = openvino.load_model(compile_conv(tmp_path / "f", CPU), RunOptions(threads=1)).infer(feeds)["scores"]
    np.testing.assert_allclose(runner.infer(feeds)["scores"], wanted, atol=4e-3 if precision == "fp16" else 5e-2)
    offered = engine.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert executed(compiled, "Convolution") == ({name} if precision.upper() in offered else {"f32"})


def test_16_bit_weights_stay_16_bits_in_the_file(tmp_path: Path) -> None:
    proto = make(
        [backend_models.helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT16, ["N", 64])],
        [("y", FLOAT16, ["N", 64])],
        {"w": np.ones((64, 64), np.float16)},
    )
    compiled = openvino.compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp16", tmp_path / "out")
    assert 64 * 64 * 2 <= (compiled.folder / "model.bin").stat().st_size < 64 * 64 * 3


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_gpus_files_run_on_the_cpu_too(tmp_path: Path) -> None:
    compiled = compile_conv(tmp_path, GPU, "fp16")
    assert compiled.device == "GPU"
    with pytest.raises(ToolchainError, match=r"finds no GPU on this machine; it finds CPU"):
        openvino.load_model(compiled, RunOptions())
    runner = openvino.load_model(compiled, RunOptions(device="CPU"))
    assert runner.infer(backend_models.feeds("conv"))["scores"].shape == (1, 10)


def test_an_npu_gets_a_batch_of_one(tmp_path: Path) -> None:
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    found = openvino.check(model, NPU)
    assert [(d.severity, "batch of image becomes 1" in d.message) for d in found] == [("warning", True)]
    compiled = openvino.compile_model(model, NPU, "fp16", tmp_path / "out")
    assert compiled.inputs[0].shape == (1, 3, 12, 12)
    assert compiled.outputs[0].shape == (1, 10)
    runner = openvino.load_model(compiled, RunOptions(device="CPU"))
    assert runner.infer(backend_models.feeds("conv"))["scores"].shape == (1, 10)
    with pytest.raises(DataError, match=r"has shape \[2, 3, 12, 12\], not \[1, 3, 12, 12\]"):
        runner.infer(backend_models.feeds("conv", 2))


def test_an_npu_does_not_pretend_to_compute_in_fp32(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="does not compute in float32") as caught:
        compile_conv(tmp_path, NPU, "fp32")
    assert "fp16 or int8" in caught.value.hint


def test_an_npu_refuses_free_dimensions_but_the_batch(tmp_path: Path) -> None:
    node = backend_models.helper.make_node("Relu", ["x"], ["y"])
    proto = make([node], [("x", FLOAT, ["N", "length"])], [("y", FLOAT, ["N", "length"])])
    model = save(proto, tmp_path / "m.onnx")
    assert [d.severity for d in openvino.check(model, NPU)] == ["error"]
    with pytest.raises(CompileError, match="takes fixed shapes only, and x has"):
        openvino.compile_model(model, NPU, "fp16", tmp_path / "out")
    assert openvino.check(model, CPU) == []


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "call"), [(1, "infer"), (2, "start_async")])
@pytest.mark.parametrize("reuse", [False, True])
def test_the_callers_thread_waits_where_the_engine_has_several(
    threads: int, call: str, reuse: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino as engine

    seen: list[str] = []
    for name in ("infer", "start_async"):
        real = getattr(engine.InferRequest, name)
        monkeypatch.setattr(
            engine.InferRequest, name, lambda *a, name=name, real=real, **k: (seen.append(name), real(*a, **k))[1]
        )
    options = RunOptions(threads=threads, reuse_outputs=reuse)
    runner = openvino.load_model(compile_conv(tmp_path, CPU), options)
    assert isinstance(runner, FixedBatchRunner)
    one, other = backend_models.feeds("conv"), {"image": np.ones((1, 3, 12, 12), np.float32)}
    free = openvino.load_model(compile_conv(tmp_path / "f", CPU), RunOptions(threads=1, fixed_batch=0))
    wanted = [np.array(free.infer(feeds)["scores"]) for feeds in (one, other)]
    np.array(runner.infer(one)["scores"])  # the first call of a shape is always waited for
    for each in (runner, runner.another()):
        each.infer(one)
        seen.clear()
        found = [np.array(each.infer(feeds)["scores"]) for feeds in (one, other)]
        assert seen == [call, call]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


# --- the batch --------------------------------------------------------------------------------------------------------


def shape_of(runner: Any) -> str:
    """Return the shape of the first input that a runner's engine was compiled for."""
    return str(runner._compiled.inputs[0].get_partial_shape())


def test_a_free_batch_is_loaded_for_one_sample_and_again_only_when_another_comes(tmp_path: Path) -> None:
    compiled = compile_conv(tmp_path, CPU)
    runner = openvino.load_model(compiled, RunOptions(threads=1))
    assert isinstance(runner, FixedBatchRunner)
    assert shape_of(runner._fixed) == "[1,3,12,12]"
    one = runner.infer(backend_models.feeds("conv"))["scores"]
    assert runner._general is None
    three = runner.infer(backend_models.feeds("conv", 3))["scores"]
    assert shape_of(runner._general) == "[?,3,12,12]"
    assert (one.shape, three.shape) == ((1, 10), (3, 10))
    free = openvino.load_model(compiled, RunOptions(threads=1, fixed_batch=0))
    assert not isinstance(free, FixedBatchRunner)
    assert shape_of(free) == "[?,3,12,12]"
    np.testing.assert_allclose(three, free.infer(backend_models.feeds("conv", 3))["scores"], atol=1e-6)


def test_a_model_that_does_not_take_one_sample_is_loaded_for_any_batch(tmp_path: Path) -> None:
    """Its samples are taken in pairs."""
    node = backend_models.helper.make_node("Reshape", ["x", "pairs"], ["y"])
    proto = make([node], [("x", FLOAT, ["N", 3])], [("y", FLOAT, ["M", 2, 3])], {"pairs": np.array([-1, 2, 3])})
    compiled = openvino.compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = openvino.load_model(compiled, RunOptions(threads=1))
    assert not isinstance(runner, FixedBatchRunner)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_array_equal(runner.infer({"x": x})["y"], x.reshape(2, 2, 3))


# --- errors that the engine loses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_two_inputs_that_do_not_fit_each_other_are_refused(threads: int, tmp_path: Path) -> None:
    """On one thread OpenVINO 2026.4 returns memory that nobody wrote, and no error."""
    node = backend_models.helper.make_node("Add", ["a", "b"], ["y"])
    values = [("a", FLOAT, ["N", 4]), ("b", FLOAT, ["M", 4])]
    model = save(make([node], values, [("y", FLOAT, ["K", 4])]), tmp_path / "m.onnx")
    compiled = openvino.compile_model(model, CPU, "fp32", tmp_path / "out")
    runner = openvino.load_model(compiled, RunOptions(threads=threads))
    two, three = np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(runner.infer({"a": two, "b": two})["y"], two * 2)
        with pytest.raises(DataError, match="could not run these inputs"):
            runner.infer({"a": two, "b": three})
        np.testing.assert_array_equal(runner.infer({"a": three, "b": three})["y"], three * 2)


def test_a_number_that_makes_an_impossible_shape_is_refused_on_one_thread(tmp_path: Path) -> None:
    node = backend_models.helper.make_node("Reshape", ["x", "shape"], ["y"])
    values = [("x", FLOAT, ["N", 4]), ("shape", backend_models.INT64, [2])]
    model = save(make([node], values, [("y", FLOAT, ["A", "B"])]), tmp_path / "m.onnx")
    runner = openvino.load_model(openvino.compile_model(model, CPU, "fp32", tmp_path / "out"), RunOptions(threads=1))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for _ in range(3):
        np.testing.assert_array_equal(runner.infer({"x": x, "shape": np.array([4, 2])})["y"], x.reshape(4, 2))
        with pytest.raises(DataError, match="could not run these inputs"):
            runner.infer({"x": x, "shape": np.array([5, 2])})


def test_an_empty_file_is_not_an_empty_model(tmp_path: Path) -> None:
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    model.path.write_bytes(b"")
    with pytest.raises(CompileError, match="reads 0 inputs from it, not 1"):
        openvino.compile_model(model, CPU, "fp32", tmp_path / "out")


def test_a_file_of_another_format_is_not_tried_by_other_readers(tmp_path: Path, capfd: Any) -> None:
    """The general reader would hand an unknown file to TensorFlow's, PyTorch's and other parsers."""
    model = save(MODELS["conv"](), tmp_path / "m.onnx")
    model.path.write_bytes(b"not a model of any kind")
    with pytest.raises(CompileError, match="refused"):
        openvino.compile_model(model, CPU, "fp32", tmp_path / "out")
    assert "tensorflow" not in capfd.readouterr().err


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    compiled = compile_conv(tmp_path, CPU, kind="several")
    code = f"""
import sys

sys.path.insert(0, {str(HELPERS)!r})
from pathlib import Path
from backend_models import MODELS, save
from edgepack.engines.openvino import engine as openvino
from edgepack.specs.target import Target
model = save(MODELS["several"](), Path({str(tmp_path / "n.onnx")!r}))
openvino.compile_model(model, Target("u", "u", "openvino", "aarch64"), "fp32", Path({str(tmp_path / "other")!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in compiled.files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_users_names_of_layers_are_kept(tmp_path: Path) -> None:
    text = (compile_conv(tmp_path, CPU).folder / "model.xml").read_text()
    for output in ("first", "second", "third", "fourth", "scores"):
        assert f'name="{output}"' in text


def test_the_real_models_compile_to_the_same_bytes_twice(assets: Path, tmp_path: Path) -> None:
    from edgepack.graph.load import load_model

    for name in ("resnet20_cifar10.onnx", "kws_dscnn.onnx"):
        model = load_model(assets / name)
        folders = [openvino.compile_model(model, CPU, "fp32", tmp_path / name / turn).folder for turn in "ab"]
        for file in ("model.xml", "model.bin"):
            assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_a_model_that_is_refused_for_its_ranks_is_told_with_its_nodes(assets: Path) -> None:
    from edgepack.graph.load import load_model

    found = openvino.check(load_model(assets / "silero_vad_16k_op15.onnx"), CPU)
    assert found
    assert {d.severity for d in found} == {"error"}
    assert all(d.node for d in found)
    assert "rank has to be known" in found[0].message
