"""``inspect --layers`` on real engines: what was asked, what runs, SQNR, time and why, from a bundle."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from executed import executed_precision
from onnx import TensorProto, helper, numpy_helper
from small_bundles import small_bundle, small_compiled, small_facts, small_golden, small_onnx

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.layers import read_layers
from edgepack.bundle.pack import pack
from edgepack.calibrate import calibrate
from edgepack.cli.main import cli
from edgepack.data.samples import find_samples
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import BundleError
from edgepack.graph.load import load_model
from edgepack.profiling.layers import report_layers
from edgepack.quantize import quantize
from edgepack.quantize.layer_sqnr import layer_sqnr
from edgepack.specs.bundle import LayerRecord, LayerRecords
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ENGINES = ("onnxruntime", "openvino")
ONE = RunOptions(threads=1)


@dataclasses.dataclass(frozen=True)
class Made:
    """The small model in fp32 and int8, the samples, and the int8 bundle."""

    model: OnnxModel
    quantized: OnnxModel
    samples: SampleSet
    records: LayerRecords
    bundle: Path


def make(engine: str, folder: Path, leave: tuple[str, ...] = ()) -> Made:
    model = load_model(small_onnx(folder / "model.onnx"))
    images = np.random.default_rng(1).standard_normal((12, 3, 8, 8), np.float32)
    np.savez(folder / "samples.npz", image=images)
    samples = find_samples(str(folder / "samples.npz"), model.inputs, None)
    ranges = calibrate(model, samples, "minmax", 99.99, folder / "ranges")
    target = load_target(f"host-{engine}")
    rules = dataclasses.replace(target.quantization, leave=leave)
    quantized = quantize(model, ranges, rules, folder / "int8")
    records = layer_sqnr(model, quantized, samples, folder / "noise")
    compiled = get_backend(engine).compile_model(quantized, target, "int8", folder / "compiled")
    golden = small_golden(model.path, folder / "golden" / "golden.npz")
    facts = small_facts(precision="int8", target=target, records=records)
    return Made(model, quantized, samples, records, pack(compiled, golden, facts, folder))


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(request.param, tmp_path_factory.mktemp(request.param))


def run_dequantized(model: OnnxModel, feeds: list[Any], tensor: str) -> list[Any]:
    import onnxruntime

    proto = onnx.load(model.path)
    proto.graph.output.add(name=tensor)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run([tensor], {"image": feed[None]})[0] for feed in feeds]


def test_sqnr_of_each_layer_is_that_of_its_output(made: Made) -> None:
    """Computed here by hand, for the convolution with its activation, on the samples that were chosen, by channel."""
    from edgepack.data.samples import take_samples

    images = np.load(made.samples.source)["image"]
    feeds = [images[i] for i in take_samples(made.samples, 8, 0).indices]
    proto = onnx.load(made.quantized.path)
    after = next(n for n in proto.graph.node if n.op_type == "DequantizeLinear" and n.input[0].startswith("r_"))
    expected = np.concatenate(run_dequantized(made.model, feeds, "r")).astype(np.float64)
    found = np.concatenate(run_dequantized(made.quantized, feeds, after.output[0])).astype(np.float64)
    varying = expected - expected.mean(axis=(0, 2, 3), keepdims=True)  # a channel's mean is no signal
    signal, noise = (np.square(values).sum(axis=(0, 2, 3)) for values in (varying, expected - found))
    by_hand = -10 * np.log10(np.mean((noise / signal)[signal > 0]))  # of the channels that say something
    records = {layer.name: layer for layer in made.records.layers}
    assert records["conv"].sqnr_db == pytest.approx(by_hand, abs=1e-6)
    assert records["fc"].sqnr_db is not None
    assert records["fc"].sqnr_db > 20
    assert records["pool"].sqnr_db is None
    assert records["conv"].macs == 8 * 27 * 64
    assert made.records.samples == 8


def test_a_model_compared_with_itself_is_identical(made: Made, tmp_path: Path) -> None:
    records = layer_sqnr(made.model, made.model, made.samples, tmp_path)
    weighted = [layer for layer in records.layers if layer.weighted]
    assert [(layer.identical, layer.sqnr_db) for layer in weighted] == [(True, None)] * 2


def test_the_engine_runs_what_was_asked(made: Made) -> None:
    report = report_layers(made.bundle, ONE)
    rows = {row.name: row for row in report.layers}
    for name in ("conv", "fc"):
        assert (rows[name].asked, rows[name].executed) == ("int8", "int8")
        assert rows[name].time_share is not None
        assert rows[name].sqnr_db == {layer.name: layer.sqnr_db for layer in made.records.layers}[name]
    assert rows["relu"].executed == "fused"
    shares = [row.time_share or 0 for row in report.layers]
    assert sum(shares) + report.conversion_share + report.other_share == pytest.approx(1)
    assert report.sqnr_samples == 8


def test_a_layer_left_in_float_says_so(tmp_path: Path) -> None:
    report = report_layers(make("onnxruntime", tmp_path, leave=("fc",)).bundle, ONE)
    fc = next(row for row in report.layers if row.name == "fc")
    assert (fc.asked, fc.executed, fc.reason) == ("fp32", "fp32", "left in float by the rules")


def test_reasons_of_the_build_are_in_the_ir(tmp_path: Path) -> None:
    make("openvino", tmp_path, leave=("conv",))
    layers = {layer.name: layer for layer in executed_precision(tmp_path / "compiled" / "model.xml", "openvino")}
    assert (layers["conv"].asked, layers["conv"].executed) == ("fp32", "fp32")
    assert layers["conv"].reason == "left in float by the rules"
    assert (layers["scores"].asked, layers["scores"].executed) == ("int8", "int8")  # named after the model's output


def test_a_bundle_without_records_still_shows_what_runs(tmp_path: Path) -> None:
    report = report_layers(small_bundle(tmp_path), ONE)
    assert [(row.name, row.asked, row.executed) for row in report.layers if row.weighted] == [
        ("conv", "fp32", "fp32"),
        ("fc", "fp32", "fp32"),
    ]
    assert report.sqnr_samples is None
    assert all(row.reason is None for row in report.layers)


def test_an_operator_without_int8_kernel_is_named(tmp_path: Path) -> None:
    """ONNX Runtime has no int8 ConvTranspose on the CPU; Q/DQ around one are a mistake that costs time in silence."""
    values = {
        "s": np.float32(0.1), "z": np.uint8(128), "wq": np.ones((3, 4, 2, 2), np.int8), "wz": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["xq"], name="q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["x"], name="dq"),
        helper.make_node("DequantizeLinear", ["wq", "s", "wz"], ["w"], name="dqw"),
        helper.make_node("ConvTranspose", ["x", "w"], ["u"], name="up", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["u"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["scores"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "up",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    folder = tmp_path / "compiled"
    compiled = small_compiled(folder)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, folder / "model.onnx")
    outputs = (dataclasses.replace(compiled.outputs[0], shape=("N", 4)),)
    compiled = dataclasses.replace(compiled, outputs=outputs)
    golden = small_golden(folder / "model.onnx", tmp_path / "golden" / "golden.npz")
    report = report_layers(pack(compiled, golden, small_facts(), tmp_path), ONE)
    up = next(row for row in report.layers if row.name == "up")
    assert (up.asked, up.executed) == ("int8", "fp32")
    assert (up.reason or "").startswith("no int8 kernel: ONNX Runtime runs ConvTranspose in float32")


# --- the member -------------------------------------------------------------------------------------------------------


def test_the_member_is_read_as_it_was_written(made: Made) -> None:
    assert read_layers(open_bundle(made.bundle)) == made.records


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"samples": 1, "engine": "e", "layers": [], "format": 2}', "has format 2"),
        (b'{"samples": 1, "engine": "e", "layers": [], "formt": 1}', "unknown key"),
        (b'{"samples": 1, "engine": "e\\u001b[2J", "layers": []}', "control characters"),
    ],
)
def test_a_damaged_member_is_refused(text: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_records: LayerRecords, out: Path) -> Path:
        (out / "layers.json").write_bytes(text)
        return out / "layers.json"

    monkeypatch.setattr("edgepack.bundle.pack.write_layers", write)
    bundle = open_bundle(small_bundle(tmp_path, records=LayerRecords(1, "e", ())))
    with pytest.raises(BundleError, match=words):
        read_layers(bundle)


def test_records_of_another_model_do_no_harm(tmp_path: Path) -> None:
    records = LayerRecords(
        1, "e", (LayerRecord("nobody", "Conv", True, "int8", macs=-1), LayerRecord("", "", True, "int8"))
    )
    report = report_layers(small_bundle(tmp_path, records=records), ONE)
    assert [row.executed for row in report.layers] == ["fused", "fused"]
    assert report.conversion_share + report.other_share == pytest.approx(1)


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_table_keeps_to_120_columns(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    done = CliRunner().invoke(cli, ["inspect", str(made.bundle), "--layers", "--threads", "1"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 120, max(lines, key=len)
    assert any(line.split()[:4] == ["conv", "Conv", "int8", "int8"] for line in lines)


def test_json_is_the_report(made: Made) -> None:
    done = CliRunner().invoke(cli, ["inspect", str(made.bundle), "--layers", "--threads", "1", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {row["name"]: row["executed"] for row in found["layers"]}["conv"] == "int8"


def test_an_onnx_file_has_no_engine(made: Made) -> None:
    done = CliRunner().invoke(cli, ["inspect", str(made.model.path), "--layers"])
    assert done.exit_code == 2
