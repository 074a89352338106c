"""The real parser and builder of tensorrt-rtx, on a CPU: what passes, what is refused, and what it is called.

Run by ``make test-tensorrt``, which has tensorrt-rtx in an environment of its own. It is a proxy: another product than
a Jetson's TensorRT, for other GPUs, with the same ONNX parser.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import one_operator
import pytest
from onnx import helper
from violations import FLOAT, VIOLATIONS, lstm, make, quantized, resize

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples, read_samples, take_samples
from edgepack.engines.tensorrt.check import check_model
from edgepack.engines.tensorrt.proxy import check_by_proxy
from edgepack.graph.cast import cast
from edgepack.graph.load import load_model
from edgepack.pipeline.check import check_file
from edgepack.quantize import quantize

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import Target

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.tensorrt_rtx, pytest.mark.timeout(900)]
Save = Any
PEERS = ROOT / "benchmarks" / "peers"
REAL = ("lite0", "resnet20", "keywords", "fastestdet", "minilm")
ENVIRONMENT_OF_MINILM = ROOT / ".venv-peers-minilm"


@pytest.mark.parametrize("name", VIOLATIONS)
def test_the_parser_refuses_each_violation_as_the_check_before_it_does(name: str, save: Save, jetson: Target) -> None:
    build, node, _ = VIOLATIONS[name]
    model = save(build())
    assert any(d.severity == "error" for d in check_model(model, jetson))
    report = check_by_proxy(model)
    assert report.summary.startswith("refused by tensorrt-rtx 1.")
    assert report.builds == ()
    assert report.diagnostics[0].node == node


def test_where_the_parser_does_the_opposite_of_its_document(save: Save, jetson: Target) -> None:
    """The table of restrictions says of each why it is judged as it is."""
    for case, judged in one_operator.disputed():
        model = save(case.proto)
        assert bool(check_by_proxy(model, ("8.6",)).diagnostics) is case.refused, case.name
        assert any(d.severity == "error" for d in check_model(model, jetson)) is judged, case.name


def test_what_the_check_says_of_single_operators_is_what_the_parser_does(save: Save, jetson: Target) -> None:
    """Every type, rank and attribute in the table of restrictions, and what is beside it."""
    differing = []
    for case in (*one_operator.of_types(), *one_operator.of_kinds()):
        model = save(case.proto)
        refused = bool(check_by_proxy(model, ("8.6",)).diagnostics)
        said = any(d.severity == "error" for d in check_model(model, jetson))
        if not refused == said == case.refused:
            differing.append((case.name, refused, said, case.refused))
    assert differing == []


@pytest.mark.parametrize(
    "build", [quantized, lambda: resize(mode="linear"), lambda: resize(mode="cubic"), lambda: lstm(0)]
)
def test_what_the_check_lets_by_builds(build: Any, save: Save) -> None:
    report = check_by_proxy(save(build()))
    assert report.diagnostics == ()
    assert [b.sm for b in report.builds] == ["8.6", "8.9"]
    assert report.summary.endswith("for SM 8.6 and 8.9 (proxy)")
    assert "Jetson" not in report.summary


def test_free_axes_build_with_their_limits(save: Save) -> None:
    weights = {"w": np.ones((16, 4), np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    assert check_by_proxy(save(make([node], weights, inputs=[("x", FLOAT, ("N", "length", 16))]))).diagnostics == ()


def test_a_gpu_that_it_does_not_build_for_is_a_diagnostic(save: Save) -> None:
    report = check_by_proxy(save(quantized()), ("8.7",))
    assert report.builds == ()
    assert "SM87" in report.diagnostics[0].message


def test_the_command_reports_both(save: Save, tmp_path: Path) -> None:
    save(quantized(), "right.onnx")
    report = check_file(tmp_path / "right.onnx", "jetson-orin-nano-jp6", proxy=True)
    assert report.passed
    assert report.proxy is not None
    assert report.proxy.summary.startswith("checked with tensorrt-rtx 1.7.1")


# --- real networks ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=REAL)
def network(request: pytest.FixtureRequest, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained network, simplified, and samples to calibrate with."""
    if request.param == "minilm" and not ENVIRONMENT_OF_MINILM.is_dir():
        pytest.skip("MiniLM is exported in an environment of its own: make .venv-peers-minilm/.ready")
    sys.path.insert(0, str(PEERS))
    try:
        from models import set_up  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(PEERS))
    folder = tmp_path_factory.mktemp(str(request.param))
    set_up(request.param, folder)
    return Path(folder)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_real_network_passes_the_check_and_builds(
    network: Path, precision: str, jetson: Target, jetson_5: Target, tmp_path: Path
) -> None:
    model = load_model(network / "model.onnx")
    if precision != "fp32":
        model = _lowered(network, model, precision, jetson, tmp_path)
    assert [d for d in check_model(model, jetson) if d.severity == "error"] == []
    refused = {d.message.rpartition(" has no ")[2] for d in check_model(model, jetson_5) if d.severity == "error"}
    # TensorRT 8.5's parser does not know the operator of opset 17, only what it is made of.
    assert refused == ({"LayerNormalization; TensorRT 8.6 takes it"} if "minilm" in network.name else set())
    report = check_by_proxy(model)
    assert report.diagnostics == ()
    assert [b.sm for b in report.builds] == ["8.6", "8.9"]
    print(network.name, precision, report.summary, report.builds)


def _lowered(network: Path, model: OnnxModel, precision: str, target: Target, out: Path) -> OnnxModel:
    found = find_samples(str(network / "calibration.npz"), model.inputs, None)
    samples = take_samples(found, 20, 0)
    if precision == "fp16":
        return cast(model, "fp16", list(read_samples(samples, model.inputs)), out)
    return quantize(model, calibrate(model, samples, "minmax", 99.99, out), target.quantization, out)
