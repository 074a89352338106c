"""What TensorRT would refuse is refused here first, with the node and with what to do; sound models pass."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import one_operator
import pytest
from onnx import helper
from violations import DOUBLE, FLOAT, INT64, VIOLATIONS, lstm, make, quantized, resize

from edgepack.engines.tensorrt import proxy
from edgepack.engines.tensorrt.check import check_model
from edgepack.errors import ConfigError, ModelError, ToolchainError
from edgepack.pipeline.check import check_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepack.specs.model import Diagnostic
    from edgepack.specs.target import Target

Save = Any


def errors(found: list[Diagnostic]) -> list[Diagnostic]:
    return [d for d in found if d.severity == "error"]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_refused_at_its_node(name: str, save: Save, jetson: Target, tmp_path: Path) -> None:
    build, node, words = VIOLATIONS[name]
    found = errors(check_model(save(build()), jetson))
    assert found, name
    assert any(d.node == node and words in d.message for d in found), found
    assert all(d.hint for d in found)


@pytest.mark.parametrize("case", [*one_operator.of_types(), *one_operator.of_kinds()], ids=lambda case: case.name)
def test_what_the_parser_refuses_is_refused_here_with_the_node_and_the_cause(
    case: one_operator.Case, save: Save, jetson: Target
) -> None:
    found = errors(check_model(save(case.proto), jetson))
    assert bool(found) is case.refused, found
    nodes = {node.name: node for node in case.proto.graph.node}
    for diagnostic in found:
        assert diagnostic.node in nodes
        assert diagnostic.message.startswith(nodes[diagnostic.node].op_type)
        assert len(str(diagnostic.hint)) > 10


@pytest.mark.parametrize(
    ("operator", "words"), [("RoiAlign", "plugin library"), ("InstanceNormalization", "plugin library")]
)
def test_what_only_a_plugin_runs_is_named(
    operator: str, words: str, save: Save, jetson: Target, jetson_5: Target
) -> None:
    weights = {"s": np.ones(3, np.float32), "b": np.ones(3, np.float32)}
    if operator == "RoiAlign":
        weights = {"r": np.ones((2, 4), np.float32), "i": np.zeros(2, np.int64)}  # type: ignore[dict-item]
    model = save(make([helper.make_node(operator, ["x", *weights], ["y"], "it")], weights))
    (found,) = errors(check_model(model, jetson_5))
    assert (found.node, words in found.message) == ("it", True)
    assert bool(errors(check_model(model, jetson))) is (operator == "RoiAlign")


def test_operators_on_integers_are_refused_with_what_makes_a_float_model_of_them(save: Save, jetson: Target) -> None:
    model = save(make([helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "y"], "it")]))
    hints = [d.hint for d in errors(check_model(model, jetson)) if d.node == "it"]
    assert any("--requantize" in hint for hint in hints)


def test_there_are_ten_violations() -> None:
    assert len(VIOLATIONS) == 10


@pytest.mark.parametrize("build", [quantized, lambda: resize(mode="linear"), lambda: lstm(0)])
def test_what_tensorrt_takes_is_not_refused(build: Callable[[], Any], save: Save, jetson: Target) -> None:
    assert check_model(save(build()), jetson) == []


def test_an_opset_above_the_devices_is_refused(save: Save, jetson: Target, jetson_5: Target) -> None:
    model = save(make([helper.make_node("Relu", ["x"], ["y"])], opset=18))
    assert check_model(model, jetson) == []
    found = errors(check_model(model, jetson_5))
    assert "opset 18" in found[0].message
    assert "opset 17" in (found[0].hint or "")


def test_an_operator_is_refused_where_it_is_too_new(save: Save, jetson: Target, jetson_5: Target) -> None:
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], "norm")
    model = save(make([node], {"s": np.ones(8, np.float32)}))
    assert check_model(model, jetson) == []
    found = errors(check_model(model, jetson_5))
    assert [d.node for d in found] == ["norm"]
    assert "8.6" in found[0].message
    assert "opset 16" in (found[0].hint or "")


def test_float64_at_the_border_is_refused_and_inside_warned_of(save: Save, jetson: Target) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], "cast", to=FLOAT)
    outside = save(make([cast], inputs=[("x", DOUBLE, (2, 2))]))
    assert "float64" in errors(check_model(outside, jetson))[0].message
    nodes = [
        helper.make_node("Cast", ["d"], ["f"], "to_float", to=FLOAT),
        helper.make_node("Mul", ["x", "f"], ["y"], "scale"),
    ]
    inside = check_model(save(make(nodes, {"d": np.float64([0.1])}), "inside.onnx"), jetson)
    assert [(d.severity, d.node) for d in inside] == [("warning", "to_float")]


def test_int64_is_warned_of_where_tensorrt_has_32_bits(save: Save, jetson: Target, jetson_5: Target) -> None:
    node = helper.make_node("Gather", ["t", "x"], ["y"], "embed")
    model = save(make([node], {"t": np.ones((10, 4), np.float32)}, inputs=[("x", INT64, (1, 3))]))
    assert check_model(model, jetson) == []
    assert "32 bits" in check_model(model, jetson_5)[0].message


def test_a_constant_beyond_32_bits_is_refused_but_not_a_slices_end(save: Save, jetson_5: Target) -> None:
    big = np.array([1 << 40], np.int64)
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], "cast", to=INT64),
        helper.make_node("Add", ["i", "big"], ["s"], "sum"),
        helper.make_node("Cast", ["s"], ["y"], "back", to=FLOAT),
    ]
    found = errors(check_model(save(make(nodes, {"big": big})), jetson_5))
    assert [d.node for d in found] == ["sum"]
    ends = {"from": np.array([0]), "to": np.array([np.iinfo(np.int64).max]), "axis": np.array([2])}
    cut = helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"], "slice")
    assert check_model(save(make([cut], ends), "slice.onnx"), jetson_5) == []


def test_a_free_axis_beside_the_batch_is_told_with_its_limits(save: Save, jetson: Target) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    found = check_model(save(make([node], inputs=[("x", FLOAT, ("N", "length"))])), jetson)
    assert [d.severity for d in found] == ["warning"]
    assert "[1, 1] to [8, 512]" in found[0].message


def test_a_dla_takes_fixed_shapes_only(save: Save, jetson: Target) -> None:
    dla = dataclasses.replace(jetson, engine=dataclasses.replace(jetson.engine, device="DLA.1"))
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    assert check_model(save(make([node], inputs=[("x", FLOAT, ("N", 8))])), dla) == []
    found = errors(check_model(save(make([node], inputs=[("x", FLOAT, ("N", "M"))]), "free.onnx"), dla))
    assert "fixed shapes" in found[0].message


def test_a_version_that_is_too_old_is_refused_for_the_old_nano(save: Save) -> None:
    from edgepack.engines.targets import load_target

    found = check_model(save(quantized()), load_target("jetson-nano-jp4"))
    assert "8.2" in found[0].message
    assert found[0].severity == "error"


# --- the command's function -------------------------------------------------------------------------------------------


def test_a_file_is_checked_in_a_child(save: Save, tmp_path: Path) -> None:
    save(quantized(zero=3), "wrong.onnx")
    report = check_file(tmp_path / "wrong.onnx", "jetson-orin-nano-jp6")
    assert (report.passed, report.proxy) == (False, None)
    save(quantized(), "right.onnx")
    assert check_file(tmp_path / "right.onnx", "jetson-orin-nano-jp6").passed


def test_wrong_arguments_are_refused(save: Save, tmp_path: Path) -> None:
    save(quantized(), "right.onnx")
    with pytest.raises(ConfigError, match="checks for TensorRT"):
        check_file(tmp_path / "right.onnx", "raspberry-pi-5", proxy=True)
    with pytest.raises(ModelError, match=r"not an ONNX"):
        check_file(tmp_path / "right.txt", "jetson-orin-nano-jp6")
    (tmp_path / "junk.onnx").write_bytes(b"\x00\xff" * 50)
    with pytest.raises(ModelError):
        check_file(tmp_path / "junk.onnx", "jetson-orin-nano-jp6")


def test_a_missing_proxy_is_told_with_the_command_that_installs_it(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.engines.tensorrt.proxy.installed_version", lambda _: None)
    save(quantized(), "right.onnx")
    with pytest.raises(ToolchainError) as caught:
        check_file(tmp_path / "right.onnx", "jetson-orin-nano-jp6", proxy=True)
    assert "edgepack[proxy]" in caught.value.hint


def test_a_proxy_that_crashes_is_a_diagnostic(save: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module of that name that kills its process stands in for the engine's segmentation fault."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "tensorrt_rtx.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.syspath_prepend(str(tmp_path / "fake"))
    monkeypatch.setattr(proxy, "proxy_version", lambda: "0")
    report = proxy.check_by_proxy(save(quantized()))
    assert report.summary == "refused by tensorrt-rtx 0 (proxy)"
    assert "SIGSEGV" in report.diagnostics[0].message
