"""Parts that are joined are computed in loops of their own where they are computed, or turned, at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_models import host_machine
from installed_engines import skip_without

from edgepack.engines.tvm.codegen import joins, schedules
from edgepack.engines.tvm.installed import import_tvm

PARTS = (1, 4, 24)


@pytest.fixture(autouse=True)
def installed() -> None:
    skip_without("tvm")
    import_tvm()


def function(tail: Any, *, computed: bool = True) -> Any:
    """Return parts of 1, 4 and 24 channels, of which the first is computed, joined, with what follows."""
    from tvm import te, tirx, topi

    parts = [te.placeholder((1, 3, 5, size), name=f"p{size}") for size in PARTS]
    first = te.compute(parts[0].shape, lambda *i: tirx.exp(parts[0](*i))) if computed else parts[0]
    joined = topi.concatenate([first, *parts[1:]], 3)
    return te.create_prim_func([*parts, tail(joined)])


def relu(x: Any) -> Any:
    from tvm import topi

    return topi.nn.relu(x)


def identity(x: Any) -> Any:
    from tvm import topi

    return topi.identity(x)


def turned(x: Any) -> Any:
    from tvm import topi

    return topi.transpose(x, (0, 3, 1, 2))


def padded(x: Any) -> Any:
    from tvm import tirx, topi

    return topi.nn.pad(x, (0, 1, 2, 0), (0, 1, 2, 3), tirx.const(7.0, "float32"))


def arranged(made: Any) -> Any:
    return schedules.schedule(made, host_machine())[0]


@pytest.mark.parametrize("tail", [relu, turned, padded])
def test_the_values_are_the_same(tail: Any) -> None:
    import tvm

    made = function(tail)
    random = np.random.default_rng(0)
    values = [tvm.runtime.tensor(random.standard_normal((1, 3, 5, size)).astype(np.float32)) for size in PARTS]
    shape = [int(size) for size in made.params[-1].shape]
    results = []
    for one in (made, arranged(made)):
        result = tvm.runtime.tensor(np.zeros(shape, np.float32))
        target = tvm.target.Target(host_machine().target())
        tvm.compile(one.with_attr("global_symbol", "f"), target)(*values, result)
        results.append(result.numpy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)
    assert "if_then_else" not in arranged(made).script()


@pytest.mark.parametrize(
    ("tail", "computed", "parts"),
    [
        (turned, False, 3),
        (relu, True, 3),
        (identity, False, 1),  # a bare copy asks quickly enough
    ],
    ids=["turned", "computed", "copied"],
)
def test_where_parts_get_loops_of_their_own(tail: Any, computed: bool, parts: int) -> None:
    script = arranged(function(tail, computed=computed)).script()
    assert script.count("T.sblock(") - script.count('T.sblock("root")') == parts


def test_a_function_that_joins_nothing_is_left_as_it_is() -> None:
    from tvm import te, tirx

    x = te.placeholder((2, 8), name="x")
    made = te.create_prim_func([x, te.compute((2, 8), lambda i, j: tirx.exp(x[i, j]))])
    assert joins.apart(made).same_as(made)
