"""What OpenVINO would compute wrongly is named, and still is wrong: else the refusal can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import quantize_models
from backend_models import FLOAT, make, save
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.device.host import host_facts
from edgepack.engines.openvino.engine import check, compile_model, load_model
from edgepack.errors import ModelError
from edgepack.quantize import quantize
from edgepack.specs.run import RunOptions
from edgepack.specs.target import QuantizationRules, Target

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.slow

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("test", "test", "openvino", "x86_64")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip


def reduction(operator: str, opset: int, axes: list[int] | None) -> onnx.ModelProto:
    attributes = {} if axes is None or opset >= 18 else {"axes": axes}
    stored = {"a": np.array(axes)} if axes is not None and opset >= 18 else {}
    node = helper.make_node(operator, ["x", *stored], ["y"], operator, **attributes)
    shape = [1, 1, 1] if axes is None else [1 if i in (a % 3 for a in axes) else e for i, e in enumerate(X.shape)]
    return make([node], [("x", FLOAT, X.shape)], [("y", FLOAT, shape)], stored, opset=opset)


def shift(direction: str, kind: int) -> onnx.ModelProto:
    node = helper.make_node("BitShift", ["x", "k"], ["y"], "shift", direction=direction)
    return make([node], [("x", kind, ["N"])], [("y", kind, ["N"])], {"k": np.array([6], np.uint8)}, opset=13)


def is_right(proto: onnx.ModelProto, x: Any, tmp_path: Path) -> bool:
    compiled = compile_model(save(proto, tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "out")
    runner = load_model(compiled, RunOptions(threads=1))
    found = np.array(runner.infer({"x": x})["y"])
    runner.close()
    wanted = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, rtol=1e-5, atol=1e-5))


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("axes", [None, [1], [-1, 0]])
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_reductions_that_are_wrong_are_named_and_no_others(
    operator: str, axes: list[int] | None, opset: int, tmp_path: Path
) -> None:
    proto = reduction(operator, opset, axes)
    found = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert (not found) == is_right(proto, X, tmp_path)
    if found:
        assert [(d.severity, d.node) for d in found] == [("error", operator)]
        assert "opset 18" in str(found[0].hint)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bits_that_are_shifted_out(direction: str, tmp_path: Path) -> None:
    proto = shift(direction, TensorProto.UINT8)
    found = check(save(proto, tmp_path / "checked.onnx"), CPU)
    assert [(d.severity, d.node) for d in found] == [("error", "shift")]
    assert not is_right(proto, np.array([1, 2, 60, 200], np.uint8), tmp_path)


def test_they_are_found_in_branches(tmp_path: Path) -> None:
    inner = reduction("ReduceL1", 17, [1]).graph
    del inner.input[:]
    branches = {"then_branch": inner, "else_branch": inner}
    node = helper.make_node("If", ["c"], ["z"], "if", **branches)
    inputs = [("x", FLOAT, X.shape), ("c", TensorProto.BOOL, [])]
    model = save(make([node], inputs, [("z", FLOAT, [2, 1, 4])]), tmp_path / "m.onnx")
    assert {d.node for d in check(model, CPU)} == {"ReduceL1"}


# --- deconvolutions in int8 ---------------------------------------------------------------------------------------
# For some strides, dilations and pads OpenVINO 2026.4 takes code that adds pairs of products in 16 bits, also on CPUs
# with VNNI, whose other layers do not saturate. With AMX it takes other code, which is right (measured: 67 dB).


def deconvolution(kernel: int, strides: int, dilations: int, pads: list[int], tmp_path: Path) -> OnnxModel:
    # Two products of such weights with inputs near the end of their range do not fit into 16 bits.
    weights = np.random.default_rng(1).uniform(0.7, 1, (16, 16, kernel, kernel)).astype(np.float32)
    how = {"strides": [strides] * 2, "dilations": [dilations] * 2, "pads": [pads[0]] * 2 + [pads[1]] * 2}
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", **how)]
    return quantize_models.save(nodes, {"w": weights}, tmp_path / "d.onnx", inputs={"x": (2, 16, 7, 6)})


def positive_feeds(model: OnnxModel) -> list[dict[str, Any]]:
    """Inputs as after a ReLU: with a zero point of 0; with others OpenVINO takes other code, which is right."""
    return [{"x": np.clip(np.abs(feed["x"]), 0.1, 1)} for feed in quantize_models.random_feeds(model, 3)]


@pytest.mark.parametrize("pads", [[0, 0], [0, 1], [1, 1], [2, 2]])
@pytest.mark.parametrize(("kernel", "strides", "dilations"), [(1, 1, 1), (2, 1, 1), (2, 1, 2), (2, 2, 1), (3, 2, 2)])
def test_deconvolutions_are_int8_where_openvino_computes_them_right(
    kernel: int, strides: int, dilations: int, pads: list[int], tmp_path: Path
) -> None:
    model = deconvolution(kernel, strides, dilations, pads, tmp_path)
    feeds = positive_feeds(model)
    ranges = quantize_models.minmax_ranges(model, feeds)
    rules = QuantizationRules(engine="openvino")
    plain = strides == 1 or dilations == 1
    if plain and max(pads) <= dilations * (kernel - 1):
        made = quantize(model, ranges, rules, tmp_path / "out")
        wanted = quantize_models.run_onnxruntime(made, feeds, optimized=False)
        assert quantize_models.sqnr_db(wanted, quantize_models.run_openvino(made, feeds)) > 60
    else:
        with pytest.raises(ModelError, match="strides, dilations and pads"):
            quantize(model, ranges, rules, tmp_path / "out")


@pytest.mark.skipif("amx_int8" in host_facts().isa, reason="with AMX OpenVINO computes these deconvolutions right")
def test_what_is_left_in_float_still_is_wrong_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, OpenVINO computes them right, and the rule can go."""
    monkeypatch.setattr("edgepack.quantize.placement._Placer._is_plain", lambda *_: True)
    for place, (kernel, strides, dilations, pads) in enumerate([(3, 2, 2, [1, 1]), (1, 1, 1, [0, 1])]):
        folder = tmp_path / str(place)
        folder.mkdir()
        model = deconvolution(kernel, strides, dilations, pads, folder)
        feeds = positive_feeds(model)
        made = quantize(
            model, quantize_models.minmax_ranges(model, feeds), QuantizationRules(engine="openvino"), folder
        )
        wanted = quantize_models.run_onnxruntime(made, feeds, optimized=False)
        assert quantize_models.sqnr_db(wanted, quantize_models.run_openvino(made, feeds)) < 30


def with_constant(operator: str, *, stored: bool, shape: tuple[int, ...] = (3, 1)) -> onnx.ModelProto:
    """Return x -> Q/DQ, with a constant of several values, quantized in the graph or stored as integers -> Q/DQ."""
    values = np.array([0.9, -0.4, 0.2], np.float32)[: int(np.prod(shape))].reshape(shape)
    scale, zero = np.float32(0.01), np.array(128, np.uint8)
    whole = (np.rint(values / scale) + 128).astype(np.uint8)
    constants = {"s": np.float32(0.05), "z": zero, "cs": scale, "c": whole if stored else values}
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"])]  # fmt: skip
    if not stored:
        nodes.append(helper.make_node("QuantizeLinear", ["c", "cs", "z"], ["cq"]))
    nodes += [
        helper.make_node("DequantizeLinear", ["c" if stored else "cq", "cs", "z"], ["cd"]),
        helper.make_node(operator, ["d", "cd"], ["t"], "mixed"),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["tq"]),
        helper.make_node("DequantizeLinear", ["tq", "s", "z"], ["y"]),
    ]
    return make(nodes, [("x", FLOAT, ["N", 3, 4])], [("y", FLOAT, ["N", 3, 4])], constants, opset=21)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_constants_that_are_quantized_in_the_graph(operator: str, tmp_path: Path) -> None:
    wrong, right = with_constant(operator, stored=False), with_constant(operator, stored=True)
    (found,) = check(save(wrong, tmp_path / "w.onnx"), CPU)
    assert (found.severity, found.node) == ("error", "mixed")
    assert "as-is" in (found.hint or "")
    assert check(save(right, tmp_path / "r.onnx"), CPU) == []
    assert check(save(with_constant(operator, stored=False, shape=(1,)), tmp_path / "o.onnx"), CPU) == []
    assert not is_right(wrong, X / 8, tmp_path / "wrong")
    if operator == "Add":  # of products some fall between two steps, which rounding decides
        assert is_right(right, X / 8, tmp_path / "right")


def resize(mode: str, target: dict[str, list[float]], **attributes: Any) -> onnx.ModelProto:
    stored: dict[str, Any] = {name: np.array(value, np.float32) for name, value in target.items() if name == "scales"}
    stored |= {name: np.array(value) for name, value in target.items() if name == "sizes"}
    inputs = ["x", "", "scales"] if "scales" in target else ["x", "", "", "sizes"]
    node = helper.make_node("Resize", inputs, ["y"], "resize", mode=mode, **attributes)
    return make([node], [("x", FLOAT, [1, 2, 6, 7])], [("y", FLOAT, None)], stored, opset=18)


LARGER: tuple[dict[str, list[float]], ...] = ({"scales": [1, 1, 2, 1.3]}, {"sizes": [1, 2, 9, 7]})
SMALLER: tuple[dict[str, list[float]], ...] = ({"scales": [1, 1, 1, 0.6]}, {"sizes": [1, 2, 4, 9]})


# With align_corners ONNX's reference divides by sizes that are no whole numbers, which engines round down: sizes only.
RESIZES = [
    (target, coordinates)
    for target in (*LARGER, *SMALLER)
    for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    if coordinates != "align_corners" or "sizes" in target
]


@pytest.mark.parametrize(("target", "coordinates"), RESIZES)
def test_resizes_that_are_wrong_are_named_and_no_others(
    target: dict[str, list[float]], coordinates: str, tmp_path: Path
) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 7)).astype(np.float32)
    for mode in ("linear", "cubic"):
        for more in ("antialias", "exclude_outside", ""):
            proto = resize(mode, target, coordinate_transformation_mode=coordinates, **({more: 1} if more else {}))
            place = tmp_path / f"{mode} {more}"
            found = check(save(proto, place / "checked.onnx"), CPU)
            # Where every point is one of the input's, there is nothing outside to count.
            harmless = (more, coordinates) == ("exclude_outside", "asymmetric") and target in SMALLER
            assert (not found) == is_right(proto, x, place) or (found and harmless), (mode, more)
            assert [(d.severity, d.node) for d in found] == [("error", "resize")] * len(found)
