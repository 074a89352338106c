"""Which models may be run sample by sample, and which may not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import backend_models
import numpy as np
import pytest
from backend_models import FLOAT, make, save
from onnx import helper

from edgepack.engines.tvm.batching import batch_kind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "kind"), [("conv", "looped"), ("several", "looped"), ("quantized", "looped"), ("gemm", "fixed")]
)
def test_of_usual_models(name: str, kind: str, tmp_path: Path) -> None:
    assert batch_kind(save(backend_models.MODELS[name](), tmp_path / "m.onnx")) == kind


@pytest.mark.parametrize(("axis", "kind"), [(1, "looped"), (0, "free")])
def test_a_softmax_over_the_batch_joins_its_samples(axis: int, kind: str, tmp_path: Path) -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
    proto = make([node], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])])
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == kind


def test_a_difference_from_the_mean_of_the_batch_is_seen(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Mul", ["mean", "small"], ["part"]),
        helper.make_node("Sub", ["x", "part"], ["y"]),
    ]
    proto = make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])], {"small": np.float32(0.01).reshape(())})
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "free"


def test_a_batch_that_is_fixed_inside_stays_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    proto = make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, [1, 4])], {"shape": np.array([1, 4])})
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "fixed"


def test_an_output_that_does_not_begin_with_the_batch_is_not_looped(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
    proto = make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, [4, "N"])])
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "free"


def test_a_batch_with_another_name_at_the_output_is_one(tmp_path: Path) -> None:
    """Converters from other frameworks name each free extent anew."""
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = make([node], [("x", FLOAT, ["unk__1", 4])], [("y", FLOAT, ["unk__2", 4])])
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "looped"


def test_an_extent_of_the_output_that_only_has_a_name_does_not_matter(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = make([node], [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", "computed"])])
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "looped"


def test_samples_that_depend_on_each_other_only_where_one_is_large(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "six"], ["large"]),
        helper.make_node("Div", ["x", "k"], ["small"]),
        helper.make_node("Where", ["large", "small", "x"], ["y"]),
    ]
    stored = {"six": np.float32(6).reshape(()), "k": np.float32(255).reshape(())}
    proto = make(nodes, [("x", FLOAT, ["N", 4])], [("y", FLOAT, ["N", 4])], stored)
    assert batch_kind(save(proto, tmp_path / "m.onnx")) == "free"


def test_what_was_seen_on_the_users_samples_counts(tmp_path: Path) -> None:
    model = save(backend_models.MODELS["conv"](), tmp_path / "m.onnx")
    assert batch_kind(dataclasses.replace(model, mixes_batch=True)) == "free"
