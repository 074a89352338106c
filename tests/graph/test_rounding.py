"""A quantized graph without its rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from imported_models import by_onnxruntime, float_network, operators, pictures, run, sqnr_db

from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.rounding import clip_only, unrounded


def test_what_is_left_is_the_noise_of_rounding(tmp_path: Path) -> None:
    quantized = by_onnxruntime(tmp_path / "q", "QDQ", "u8s8")
    (tmp_path / "m").mkdir()
    plain = read_proto(unrounded(save_proto(quantized, tmp_path / "m"), tmp_path / "q"))
    assert operators(plain).count("QuantizeLinear") == 1  # that of the output stays
    feeds = {"x": pictures()}
    (rounded,), (found,) = (run(m, feeds) for m in (quantized, plain))
    assert 20 < sqnr_db(found, rounded) < 60


def test_types_still_clip(tmp_path: Path) -> None:
    quantized = by_onnxruntime(tmp_path / "q", "QDQ", "u8s8")
    feeds = {"x": 40 * pictures()}  # far out of the ranges that were measured
    (rounded,) = run(quantized, feeds)
    assert clip_only(quantized) > 0
    assert sqnr_db(rounded, run(quantized, feeds)[0]) > 15
    assert sqnr_db(rounded, run(float_network(), feeds)[0]) < 10


def test_a_float_graph_has_none() -> None:
    assert clip_only(float_network()) == 0


def test_integers_that_leave_the_graph_are_rounded(tmp_path: Path) -> None:
    quantized = by_onnxruntime(tmp_path / "q", "QDQ", "u8s8")
    before = np.count_nonzero([node.op_type == "QuantizeLinear" for node in quantized.graph.node])
    first = next(node for node in quantized.graph.node if node.op_type == "QuantizeLinear")
    value = quantized.graph.output.add(name=first.output[0])
    value.type.tensor_type.elem_type = 2
    assert clip_only(quantized) == before - 2  # that one, and the output's
