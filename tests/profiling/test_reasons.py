"""Every cause has its sentence, and a layer that runs as it should has none."""

from __future__ import annotations

import dataclasses

import pytest

from edgepack.profiling.reasons import LayerFacts, reason

GOOD = LayerFacts(
    engine="OpenVINO",
    asked="int8",
    executed="int8",
    kernel="Convolution brgconv_avx512_I8",
    time_share=0.2,
    conversion_share=0.0,
    macs=1_000_000,
    moved_bytes=10_000,
)


def test_a_fast_layer_has_no_reason() -> None:
    assert reason(GOOD) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"executed": "fp32", "left": "left in float by the rules"}, "left in float by the rules"),
        ({"executed": "fp32", "left": "no range was measured for 'x'"}, "left in float: no range was measured for 'x'"),
        (
            {"executed": "fp32", "kernel": "Pad", "engine": "ONNX Runtime"},
            "no int8 kernel: ONNX Runtime runs Pad in float32",
        ),
        (
            {"executed": "fp32", "kernel": "Pad", "conversion_share": 0.1},
            "no int8 kernel: OpenVINO runs Pad in float32; conversions beside it take 10.0 % of the time",
        ),
        ({"asked": "fp16", "executed": "fp32"}, "no float16 kernel here: OpenVINO runs it in float32"),
        (
            {"asked": "fp32", "executed": "fp32", "conversion_share": 0.1},
            "float between int8: conversions beside it take 10.0 % of the time",
        ),
        ({"conversion_share": 0.05}, "conversions beside it take 5.0 % of the time"),
        ({"kernel": "Pad ref_I8"}, "reference kernel, not optimized: Pad ref_I8"),
        ({"macs": 40_000}, "memory-bound: 4.0 multiply-adds a byte moved"),
        ({"saturates": True}, "no VNNI here: int8 adds in 16 bits, by three instructions for VNNI's one"),
    ],
)
def test_each_cause(changes: dict[str, object], words: str) -> None:
    assert reason(dataclasses.replace(GOOD, **changes)) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"executed": "fused", "left": "left in float by the rules"},
        {"executed": "unknown"},
        {"asked": "fp32", "executed": "fp32"},
        {"conversion_share": 0.049},  # less than a quarter of the layer's own time
        {"time_share": 0.001, "conversion_share": 0.009},  # nothing to the model
        {"kernel": "Pad ref_I8", "time_share": 0.001},
        {"kernel": "Convolution brgconv_prefix_ref"},
        {"macs": None, "moved_bytes": None, "time_share": None, "conversion_share": None},
        {"macs": 80_000},
    ],
)
def test_what_is_no_cause(changes: dict[str, object]) -> None:
    assert reason(dataclasses.replace(GOOD, **changes)) is None  # type: ignore[arg-type]
