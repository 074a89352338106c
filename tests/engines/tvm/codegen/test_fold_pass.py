"""Operators of constants are evaluated as ONNX Runtime does; what is computed stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from codegen_models import feeds, import_model, model, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen.fold_pass import evaluate, fold
from edgepack.engines.tvm.codegen.relax_util import constant, is_straight, shape_of, stored

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.standard_normal((2, 3)).astype(np.float32) for _ in range(2))


def bindings(module: Any) -> list[Any]:
    return list(module["main"].body.blocks[0].bindings)


def operators(module: Any) -> list[str]:
    return [getattr(getattr(b.value, "op", None), "name", "") for b in bindings(module)]


def calls() -> dict[str, tuple[Any, np.ndarray]]:
    """Operators of constants, and what numpy makes of them."""
    from tvm import relax

    const, op = relax.const, relax.op
    q, scale, zero = RANDOM.integers(-128, 128, (2, 3)).astype(np.int8), np.float32([0.5, 1, 2]), np.int8([1, 0, -3])
    whole = np.array([7, -8])
    return {
        "add": (op.add(const(A), const(B)), A + B),
        "subtract": (op.subtract(const(A), const(B)), A - B),
        "multiply": (op.multiply(const(A), const(B)), A * B),
        "maximum": (op.maximum(const(A), const(B)), np.maximum(A, B)),
        "minimum": (op.minimum(const(A), const(B)), np.minimum(A, B)),
        "negative": (op.negative(const(A)), -A),
        "add of whole numbers": (op.add(stored(whole), stored(whole)), 2 * whole),
        "isnan": (op.isnan(const(np.float32([1, np.nan]))), np.array([False, True])),
        "where": (op.where(const(A > 0), const(A), const(B)), np.where(A > 0, A, B)),
        "reshape": (op.reshape(const(A), (3, 2)), A.reshape(3, 2)),
        "permute": (op.permute_dims(const(A), [1, 0]), A.T),
        "permute all": (op.permute_dims(const(A)), A.T),
        "expand": (op.expand_dims(const(A), 1), A[:, None]),
        "dequantize": (op.dequantize(const(q), const(scale), const(zero), axis=1), (q - zero.astype(int)) * scale),
        "dequantize by one": (
            op.dequantize(const(q), const(np.float32(0.25)), const(np.int8(7)), axis=0),
            (q.astype(int) - 7) * 0.25,
        ),
    }


def test_operators_of_constants_have_a_value() -> None:
    for name, (call, expected) in calls().items():  # in one test: to name them for several, each run would import TVM
        found = evaluate(call)
        assert found is not None, name
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)
        assert found.flags.c_contiguous, name
        if name.startswith(("add", "reshape")):
            assert found.dtype == expected.dtype, name


def test_what_has_no_rule_or_an_argument_that_is_computed_has_no_value() -> None:
    from tvm import relax

    assert evaluate(relax.op.exp(relax.const(A))) is None
    (x,) = import_model(model([helper.make_node("Neg", ["x"], ["y"])], {"x": [2, 3]}, {}, ("y",)))["main"].params
    assert evaluate(relax.op.add(x, relax.const(A))) is None


def test_what_depends_on_an_input_stays() -> None:
    proto = model([helper.make_node("Neg", ["x"], ["y"])], {"x": [2, 3]}, {}, ("y",))
    assert "relax.negative" in operators(fold(import_model(proto)))


def test_what_is_kept_by_name_stays() -> None:
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["k"]), helper.make_node("Add", ["k", "x"], ["y"])]
    proto = model(nodes, {"x": [2, 3]}, {"q": np.int8([[1, 2, 3], [4, 5, 6]]), "s": np.float32(0.5)}, ("y",))
    assert "relax.dequantize" in operators(fold(import_model(proto), keep=frozenset({"relax.dequantize"})))
    assert "relax.dequantize" not in operators(fold(import_model(proto)))


def test_a_folded_model_computes_the_same() -> None:
    from codegen_models import assert_close, run_ours

    nodes = [
        helper.make_node("Mul", ["a", "b"], ["k"]),
        helper.make_node("Transpose", ["k"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    proto = model(nodes, {"x": [5, 3]}, {"a": A, "b": B}, ("y",))
    inputs = feeds(proto)
    assert_close(run_ours(proto, inputs)[0], run_reference(proto, inputs))


def test_shapes_and_straightness_are_read() -> None:
    module = import_model(model([helper.make_node("Neg", ["x"], ["y"])], {"x": [2, 3]}, {}, ("y",)))
    assert is_straight(module["main"])
    (x,) = module["main"].params
    assert shape_of(x) == (2, 3)
    assert constant(x) is None


def test_an_index_computed_from_a_known_shape_is_a_constant() -> None:
    nodes = [helper.make_node("Gather", ["x", "index"], ["y"], axis=2)]
    proto = model(nodes, {"x": [2, 3, 4]}, {"index": np.array(-1)}, ("y",))
    before = import_model(proto)
    assert "relax.shape_of" in operators(before)
    after = fold(before)
    take = bindings(after)[operators(after).index("relax.take")].value
    assert int(constant(take.args[1])) == 3  # type: ignore[arg-type]
