"""What the passes ask of relax expressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_models import import_model, model
from onnx import helper

from edgepack.engines.tvm.codegen.relax_util import (
    constant,
    is_straight,
    rebuilt,
    rewritten,
    shape_of,
    stored,
    with_main,
)


@pytest.fixture
def module() -> Any:
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Mul", ["a", "x"], ["y"])]
    return import_model(model(nodes, {"x": [2, 3]}, {}, ("y",)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_what_is_stored_is_read_back_with_its_type(dtype: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(int(np.prod(shape))).reshape(shape) if shape else np.array(3)).astype(dtype)
    found = constant(stored(values))
    assert found is not None
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    turned = np.asarray(values.T)
    np.testing.assert_array_equal(constant(stored(turned)), turned)


def test_variables_are_no_constants_and_have_shapes(module: Any) -> None:
    (x,) = module["main"].params
    assert constant(x) is None
    assert shape_of(x) == (2, 3)
    assert shape_of(None) is None


def test_a_function_can_be_made_anew_as_it_was(module: Any) -> None:

    def emit(builder: Any, bindings: Any) -> Any:
        made: dict[Any, Any] = {}
        for binding in bindings:
            made[binding.var] = builder.emit(rewritten(binding.value, lambda v: made.get(v, v)))
        return lambda v: made.get(v, v)

    before = module["main"]
    assert is_straight(before)
    again = with_main(module, rebuilt(before, emit))["main"]
    assert is_straight(again)
    names = [[b.value.op.name for b in f.body.blocks[0].bindings if hasattr(b.value, "op")] for f in (before, again)]
    assert names[0] == names[1] == ["relax.negative", "relax.multiply"]
