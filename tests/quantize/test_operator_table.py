"""What the engines' rules make of operators, read from placements."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.engines.int8 import MOVES
from edgepack.quantize.operator_table import (
    FLOAT,
    FUSED,
    OWN,
    PASSES,
    PASSES_ONE,
    PROBES,
    SAME,
    Probe,
    engines,
    int8_table,
    rules_of,
    what_becomes_of,
)
from edgepack.quantize.rules import table_of

TABLE = int8_table()


def test_every_engine_with_int8_has_a_column() -> None:
    assert set(engines()) == {"onnxruntime", "openvino", "tvm", "tensorrt"}
    assert all(tuple(row) == engines() for row in TABLE.values())
    assert len(TABLE) == len(PROBES)


@pytest.mark.parametrize(
    ("operator", "engine", "found"),
    [
        ("convolution", "openvino", OWN),
        ("transposed convolution", "onnxruntime", FLOAT),
        ("transposed convolution", "openvino", OWN),
        ("residual Add", "onnxruntime", OWN),
        ("residual Add", "tensorrt", FUSED),
        ("Concat", "openvino", OWN),
        ("Concat", "tensorrt", PASSES_ONE),
        ("Split", "onnxruntime", SAME),
        ("Split", "tensorrt", PASSES),
        ("Pad with zeros", "openvino", SAME),
        ("Pad with another value", "openvino", FLOAT),
        ("Resize, cubic", "tensorrt", FLOAT),
        ("Relu", "onnxruntime", FUSED),
        ("Sigmoid", "onnxruntime", OWN),
        ("Sigmoid", "openvino", FUSED),
        ("LayerNormalization", "tensorrt", FLOAT),
        ("embedding (Gather of a table)", "onnxruntime", FLOAT),
    ],
)
def test_what_becomes_of_operators(operator: str, engine: str, found: str) -> None:
    assert TABLE[operator][engine] == found


@pytest.mark.parametrize("engine", engines())
def test_the_table_agrees_with_the_engines_own(engine: str) -> None:
    """An operator that an engine's record does not list is in float, or inside a layer."""
    listed = table_of(engine).operators
    for probe in PROBES:
        if probe.operator not in listed:
            assert TABLE[probe.title][engine] in (FLOAT, FUSED)
        elif probe.operator in MOVES and "cubic" not in probe.title and "another" not in probe.title:
            assert TABLE[probe.title][engine] in ((SAME, PASSES) if probe.activations else (FLOAT,))


def test_what_a_target_leaves_out_is_in_float() -> None:
    rules = dataclasses.replace(rules_of("openvino"), leave=("MaxPool",))
    probe = next(probe for probe in PROBES if probe.operator == "MaxPool")
    assert what_becomes_of(probe, rules) == FLOAT
    assert what_becomes_of(Probe("tanh", "Tanh", {}), rules_of("tensorrt")) == FUSED
