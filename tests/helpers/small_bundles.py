"""Small models and bundles made in code, for the tests of everything that a device does with bundles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.bundle.pack import BundleFacts, pack
from edgepack.specs.model import CompiledModel, TensorSpec
from edgepack.specs.target import Target
from edgepack.verify.golden import Golden, write_golden
from edgepack.verify.tolerance import tolerance

if TYPE_CHECKING:
    from pathlib import Path

TARGET = Target(id="test-board", title="A board for tests", backend="onnxruntime", arch="x86_64")
INPUTS = (TensorSpec("image", "float32", ("N", 3, 8, 8)),)
OUTPUTS = (TensorSpec("scores", "float32", ("N", 5)),)
CLASSES = ("ant", "bee", "cat", "dog", "eel")


def small_onnx(path: Path, channels: int = 8, opset: int = 17) -> Path:
    """Write a classifier: convolution, ReLU, mean over the picture, matrix product."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    weights = {
        "kernel": random.standard_normal((channels, 3, 3, 3), np.float32),
        "bias": random.standard_normal(channels, np.float32),
        "matrix": random.standard_normal((channels, 5), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "matrix"], ["scores"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def onnx_outputs(path: Path, feed: dict[str, Any]) -> dict[str, Any]:
    """Run an ONNX file with bare ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def small_golden(model: Path, out: Path, samples: int = 2, with_tolerance: bool = True) -> Path:
    """Write golden vectors of a model from ``small_onnx``, as its own outputs."""
    random = np.random.default_rng(3)
    feeds = [{"image": random.standard_normal((1, 3, 8, 8), np.float32)} for _ in range(samples)]
    outputs = [onnx_outputs(model, feed) for feed in feeds]
    allowed = {"scores": tolerance("fp32")} if with_tolerance else None
    return write_golden(Golden(tuple(feeds), tuple(outputs), allowed), out)


def small_compiled(folder: Path, channels: int = 8) -> CompiledModel:
    """Return ONNX Runtime's files of the small model."""
    import onnxruntime

    small_onnx(folder / "model.onnx", channels)
    return CompiledModel(
        backend="onnxruntime",
        precision="fp32",
        folder=folder,
        entry="model.onnx",
        files=("model.onnx",),
        inputs=INPUTS,
        outputs=OUTPUTS,
        versions={"onnxruntime": onnxruntime.__version__},
    )


def small_facts(**changes: Any) -> BundleFacts:
    """Return what a build would say of the small model."""
    facts = BundleFacts(
        name="small",
        version="1.0",
        target=TARGET,
        precision="fp32",
        preprocessing=None,
        classes=CLASSES,
        layers={"fp32": 2},
        accuracy=None,
        toolchain={"edgepack": "0.1.0"},
        source_sha256="ab" * 32,
        calibration_sha256=None,
    )
    return dataclasses.replace(facts, **changes)


def small_bundle(folder: Path, channels: int = 8, **changes: Any) -> Path:
    """Pack the small model into ``folder``."""
    compiled = small_compiled(folder / "compiled", channels)
    golden = small_golden(compiled.folder / "model.onnx", folder / "golden" / "golden.npz")
    return pack(compiled, golden, small_facts(**changes), folder)


def small_openvino_bundle(folder: Path) -> Path:
    """Pack the small model, compiled by OpenVINO, into ``folder``."""
    from edgepack.engines.openvino.engine import compile_model
    from edgepack.graph.load import load_model

    model = load_model(small_onnx(folder / "onnx" / "model.onnx"))
    compiled = compile_model(model, dataclasses.replace(TARGET, backend="openvino"), "fp32", folder / "compiled")
    return pack(compiled, small_golden(model.path, folder / "golden.npz"), small_facts(), folder)


def small_bundle_of_two(folder: Path, *, same: bool) -> Path:
    """Pack a bundle with two payloads, of which the second stands in for the first; ``same``: with the same weights."""
    from unittest.mock import patch

    import onnx

    from edgepack.bundle import pack as packing

    compiled = small_compiled(folder / "compiled")
    proto = onnx.load(compiled.folder / "model.onnx")
    for tensor in () if same else proto.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    onnx.save(proto, compiled.folder / "second.onnx")
    compiled = dataclasses.replace(compiled, files=("model.onnx", "second.onnx"))
    (first,) = packing._payloads(compiled)
    second = dataclasses.replace(first, entry=first.entry.replace("model.onnx", "second.onnx"))
    with patch.object(packing, "_payloads", return_value=(first, second)):
        golden = small_golden(compiled.folder / "model.onnx", folder / "golden" / "golden.npz")
        return pack(compiled, golden, small_facts(), folder)
