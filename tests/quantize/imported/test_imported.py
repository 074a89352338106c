"""Models that came quantized for each engine: the same integers, and what each engine runs in int8."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from imported_models import (
    FORMATS,
    TYPES,
    by_onnxruntime,
    dynamic,
    executed,
    float_network,
    operators,
    pictures,
    run,
    sqnr_db,
    with_clips,
)

from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.graph.clean.view import View
from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.quantize.imported import NOTE, Retargeted, counted, in_words, retarget
from edgepack.quantize.imported.activations import activations
from edgepack.quantize.imported.layers import stored_layers
from edgepack.specs.target import QuantizationRules

_JETSON = "jetson-agx-orin-32gb-jp6"
_FEEDS = {"x": pictures()}


def retargeted(proto: onnx.ModelProto, rules: QuantizationRules, folder: Path) -> tuple[Retargeted, onnx.ModelProto]:
    """Return what is made of a model for an engine, and its graph."""
    folder.mkdir(exist_ok=True, parents=True)
    made = retarget(save_proto(proto, folder), rules, folder / "made")
    return made, read_proto(load_model(made.model.path))


def rules_of(target: str) -> QuantizationRules:
    """Return a target's rules, without this host's own habit of clipping."""
    return dataclasses.replace(load_target(target).quantization, saturates=False)


@pytest.mark.parametrize("target", ["host-onnxruntime", "host-openvino"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("types", TYPES)
def test_its_integers_stay(form: str, types: str, target: str, tmp_path: Path) -> None:
    proto = by_onnxruntime(tmp_path / "q", form, types)
    made, graph = retargeted(proto, rules_of(target), tmp_path / "m")
    assert made.lossy == ()
    (before,), (after,) = run(proto, _FEEDS), run(graph, _FEEDS)
    if form == "QDQ":
        np.testing.assert_array_equal(after, before)
    assert sqnr_db(before, after) > 40
    assert sqnr_db(before, run(graph, _FEEDS, optimize=True)[0]) > 35


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("types", ["u8s8", "s8s8"])
def test_onnx_runtime_runs_every_layer_in_int8(form: str, types: str, tmp_path: Path) -> None:
    proto = by_onnxruntime(tmp_path / "q", form, types)
    _, graph = retargeted(proto, rules_of("host-onnxruntime"), tmp_path / "m")
    ran = executed(graph, tmp_path)
    assert ran.count("QLinearConv") == 2
    assert "Conv" not in ran
    assert "QGemm" in ran


def test_a_narrow_range_does_not_keep_onnx_runtime_from_int8(tmp_path: Path) -> None:
    symmetric = by_onnxruntime(tmp_path / "q", "QDQ", "s8s8", ActivationSymmetric=True)
    proto = with_clips(symmetric, -127, 127)
    made, graph = retargeted(proto, rules_of("host-onnxruntime"), tmp_path / "m")
    assert executed(graph, tmp_path).count("QLinearConv") == 2
    assert any("one level more" in text or "level more" in text for text in made.lossy)
    (before,), (after,) = run(proto, _FEEDS), run(graph, _FEEDS)
    assert sqnr_db(before, after) > 35


def test_openvino_keeps_signed_activations_around_zero(tmp_path: Path) -> None:
    proto = by_onnxruntime(tmp_path / "q", "QDQ", "s8s8", ActivationSymmetric=True)
    _, kept = retargeted(proto, rules_of("host-openvino"), tmp_path / "a")
    _, moved = retargeted(proto, rules_of("host-onnxruntime"), tmp_path / "b")
    assert {one.kind for one in activations(View(kept))} == {"int8"}
    assert {one.kind for one in activations(View(moved))} == {"uint8"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("types", TYPES)
def test_tensorrt_takes_it_and_what_was_rounded_is_said(form: str, types: str, tmp_path: Path) -> None:
    target = load_target(_JETSON)
    proto = by_onnxruntime(tmp_path / "q", form, types)
    made, graph = retargeted(proto, target.quantization, tmp_path / "m")
    refused = [d for d in get_backend(target.backend).check(made.model, target) if d.severity == "error"]
    assert refused == []
    assert all(one.kind == "int8" and one.zero == 0 for one in activations(View(graph)))
    assert all(not one.zero.any() for one in stored_layers(View(graph)))
    assert any("around zero" in text for text in made.lossy)
    assert sqnr_db(run(proto, _FEEDS)[0], run(graph, _FEEDS)[0]) > 20


@pytest.mark.parametrize("form", FORMATS)
def test_weights_are_rounded_where_the_target_clips_and_that_is_said(form: str, tmp_path: Path) -> None:
    proto = by_onnxruntime(tmp_path / "q", form, "u8s8")
    rules = dataclasses.replace(rules_of("host-onnxruntime"), saturates=True)
    made, graph = retargeted(proto, rules, tmp_path / "m")
    assert any("no two products clip" in text for text in made.lossy)
    (note,) = (entry.value for entry in graph.metadata_props if entry.key == NOTE)
    assert note == in_words(made.exact, made.lossy)
    assert sqnr_db(run(proto, _FEEDS)[0], run(graph, _FEEDS, optimize=True)[0]) > 25


def test_one_that_is_quantized_while_it_runs_stays(tmp_path: Path) -> None:
    proto = dynamic(tmp_path / "q")
    made, graph = retargeted(proto, rules_of("host-onnxruntime"), tmp_path / "m")
    assert (made.exact, made.lossy) == ((), ())
    assert sorted(operators(graph)) == sorted(operators(proto))


def test_an_old_operator_set_is_raised(tmp_path: Path) -> None:
    proto = by_onnxruntime(tmp_path / "q", "QOperator", "u8s8")
    for opset in proto.opset_import:
        if not opset.domain:
            opset.version = 12
    (before,) = run(proto, _FEEDS)
    made, graph = retargeted(proto, rules_of("host-onnxruntime"), tmp_path / "m")
    assert made.model.opset == 13
    assert sqnr_db(before, run(graph, _FEEDS)[0]) > 40


def test_words_say_what_was_exact_and_what_was_not() -> None:
    assert in_words((), ()) == "nothing was changed"
    assert (
        in_words(("a",), ("b", "c"))
        == "written otherwise, with the same values: a; rounded again for this target: b, c"
    )
    assert counted(1, "operator that moves") == "1 operator that moves"
    assert counted(3, "operator that moves") == "3 operators that move"


def test_a_float_network_has_nothing_to_change(tmp_path: Path) -> None:
    made, _ = retargeted(float_network(), rules_of("host-onnxruntime"), tmp_path)
    assert (made.exact, made.lossy) == ((), ())
