"""Files as Brevitas, ModelOpt, torchao, NNCF and ONNX Runtime wrote them, against the answers of their own integers.

``recorded/record.py`` made them with the real tools.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from imported_models import executed, operators, run, sqnr_db

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.clean.view import View
from edgepack.graph.load import load_model, read_proto
from edgepack.graph.passes import is_quantized
from edgepack.graph.prepare import prepare
from edgepack.quantize.imported import retarget
from edgepack.quantize.imported.floats import take_float
from edgepack.quantize.imported.layers import stored_layers
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions

RECORDED = Path(__file__).with_name("recorded")
TOOLS = sorted(path.stem for path in RECORDED.glob("*.zip"))
LAYERS = 3  # two convolutions and a product


def recorded(tool: str, folder: Path) -> tuple[OnnxModel, dict[str, np.ndarray], np.ndarray]:
    """Return a tool's file as a build takes it, inputs, and what the tool's own integer model answers."""
    with zipfile.ZipFile(RECORDED / f"{tool}.zip") as archive:
        (folder / "model.onnx").write_bytes(archive.read("model.onnx"))
        pairs = np.load(io.BytesIO(archive.read("pairs.npz")))
    return prepare(load_model(folder / "model.onnx"), folder / "prepared"), {"image": pairs["image"]}, pairs["output"]


def test_every_tool_is_recorded() -> None:
    assert TOOLS == ["brevitas", "modelopt", "nncf", "onnxruntime", "onnxruntime_operators", "torchao"]


@pytest.mark.parametrize("target", ["host-onnxruntime", "host-openvino"])
@pytest.mark.parametrize("tool", TOOLS)
def test_as_it_is_an_engine_gives_the_answers_of_the_tools_own_integers(tool: str, target: str, tmp_path: Path) -> None:
    model, feeds, answers = recorded(tool, tmp_path)
    found = load_target(target)
    made = retarget(model, dataclasses.replace(found.quantization, saturates=False), tmp_path / "made")
    assert made.lossy == ()
    assert len(list(stored_layers(View(read_proto(made.model))))) == LAYERS
    backend = get_backend(found.backend)
    runner = backend.load_model(
        backend.compile_model(made.model, found, "int8", tmp_path / "out"), RunOptions(threads=1)
    )
    (output,) = runner.infer(feeds).values()
    runner.close()
    assert sqnr_db(answers, output) > 50  # 53 dB where a tie falls the other way, 135 or more elsewhere


# ModelOpt's file reads the first Relu in float too, for the sum, so that nothing of it is an integer layer there.
@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "modelopt"])
def test_onnx_runtime_runs_its_first_convolution_in_int8(tool: str, tmp_path: Path) -> None:
    model, _, _ = recorded(tool, tmp_path)
    rules = dataclasses.replace(load_target("host-onnxruntime").quantization, saturates=False)
    made = retarget(model, rules, tmp_path / "made")
    assert "QLinearConv" in executed(read_proto(made.model), tmp_path)


@pytest.mark.parametrize("tool", TOOLS)
def test_for_a_jetson_it_is_rounded_around_zero_and_says_so(tool: str, tmp_path: Path) -> None:
    model, feeds, answers = recorded(tool, tmp_path)
    made = retarget(model, load_target("jetson-agx-orin-32gb-jp6").quantization, tmp_path / "made")
    proto = read_proto(made.model)
    assert all(not View(proto).value(node.input[2]).any() for node in View(proto).nodes("QuantizeLinear"))
    assert made.lossy == () if tool == "modelopt" else "around zero" in " ".join(made.lossy)
    assert sqnr_db(answers, run(proto, feeds)[0]) > 40


@pytest.mark.parametrize("tool", TOOLS)
def test_its_float_model_is_near(tool: str, tmp_path: Path) -> None:
    model, feeds, answers = recorded(tool, tmp_path)
    proto = read_proto(take_float(model, tmp_path / "float"))
    assert not is_quantized(proto)
    assert operators(proto).count("Conv") == 2
    assert 30 < sqnr_db(answers, run(proto, feeds)[0]) < 60  # the rounding is gone, so it is not the same
