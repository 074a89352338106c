"""Multiply-adds of an IR's operators, by their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_models import FLOAT, MODELS, make, save
from onnx import helper

from edgepack.engines.openvino import engine as openvino_engine
from edgepack.engines.openvino.macs import ir_macs
from edgepack.errors import CompileError
from edgepack.specs.target import Target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgepack[openvino]'")

CPU = Target("t", "T", "openvino", "x86_64")


def counted(tmp_path: Path, proto: object) -> dict[str, int | None]:
    model = save(proto, tmp_path / "m.onnx")  # type: ignore[arg-type]
    compiled = openvino_engine.compile_model(model, CPU, "fp32", tmp_path / "out")
    return ir_macs(compiled.folder / compiled.entry)


@pytest.mark.parametrize(
    ("operator", "weights", "attributes", "macs"),
    [
        ("Conv", (6, 4, 3, 3), {}, 6 * 6 * 6 * 4 * 9),
        ("Conv", (6, 2, 3, 3), {"group": 2}, 6 * 6 * 6 * 2 * 9),
        ("Conv", (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}, 4 * 3 * 3 * 9),
        ("ConvTranspose", (4, 5, 2, 2), {}, 4 * 64 * 5 * 4),
        ("ConvTranspose", (4, 3, 2, 2), {"group": 2}, 4 * 64 * 3 * 4),
    ],
)
def test_a_convolution_has_its_kernel_at_every_place(
    tmp_path: Path, operator: str, weights: tuple[int, ...], attributes: dict[str, object], macs: int
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], "conv", **attributes)
    proto = make([node], [("x", FLOAT, [1, 4, 8, 8])], [("y", FLOAT, None)], {"w": np.ones(weights, np.float32)})
    assert list(counted(tmp_path, proto).values()) == [macs]


def test_a_free_batch_counts_as_one(tmp_path: Path) -> None:
    found = counted(tmp_path, MODELS["conv"]())
    assert sorted(n or 0 for n in found.values()) == [8 * 10, 36 * 8 * 27]


def test_another_free_size_is_not_known(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    weights = {"w": np.ones((4, 5), np.float32)}
    proto = make([node], [("x", FLOAT, ["N", "L", 4])], [("y", FLOAT, ["N", "L", 5])], weights)
    assert list(counted(tmp_path, proto).values()) == [None]


def test_a_product_of_two_activations_counts(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "z"], ["y"], "product")
    inputs = [("x", FLOAT, [2, 3, 4]), ("z", FLOAT, [2, 4, 5])]
    assert list(counted(tmp_path, make([node], inputs, [("y", FLOAT, [2, 3, 5])])).values()) == [2 * 3 * 4 * 5]


def test_what_openvino_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.xml").write_text("<net/>")
    with pytest.raises(CompileError, match=r"OpenVINO refused bad\.xml"):
        ir_macs(tmp_path / "bad.xml")
