"""Values that have a name are computed once, through inlining, unrolling and code generation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from codegen_models import assert_close, feeds, host_machine, import_model, model, run_ours, run_reference
from onnx import helper

from edgepack.engines.tvm.codegen.lower import lower
from edgepack.engines.tvm.codegen.once import stored

pytestmark = pytest.mark.slow

NODE = helper.make_node
# Mish of opset 18, in operators of the one that the tests' models have.
MISH = [NODE("Softplus", ["a"], ["s"]), NODE("Tanh", ["s"], ["t"]), NODE("Mul", ["a", "t"], ["y"])]
ELU = [NODE("Elu", ["a"], ["y"])]
CHAIN = [NODE("Elu", ["a"], ["e"]), *[NODE("Softplus", ["e"], ["s"]), NODE("Tanh", ["s"], ["t"])],
         NODE("Mul", ["e", "t"], ["m"]), NODE("Mul", ["m", "m"], ["y"])]  # fmt: skip
JOINED = [NODE("Sigmoid", ["a"], ["s"]), NODE("Elu", ["a"], ["e"]), NODE("Concat", ["s", "e"], ["c"], axis=1),
          NODE("Elu", ["c"], ["y"])]  # fmt: skip


def convolution(group: int, kernel: int) -> tuple[Any, np.ndarray]:
    weights = np.random.default_rng(1).standard_normal((32, 32 // group, kernel, kernel)).astype(np.float32)
    return NODE("Conv", ["x", "w"], ["a"], group=group, pads=[kernel // 2] * 4), weights / kernel


@pytest.mark.parametrize("behind", [MISH, ELU, CHAIN, JOINED], ids=["mish", "elu", "chain", "joined"])
@pytest.mark.parametrize(("group", "kernel"), [(1, 1), (1, 3), (4, 5), (32, 3)])
def test_functions_behind_a_kernel(group: int, kernel: int, behind: list[Any]) -> None:
    node, weights = convolution(group, kernel)
    proto = model([node, *behind], {"x": [1, 32, 9, 11]}, {"w": weights}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


@pytest.mark.parametrize("behind", [MISH, ELU, CHAIN, JOINED], ids=["mish", "elu", "chain", "joined"])
def test_functions_in_a_loop_of_their_own(behind: list[Any]) -> None:
    proto = model([NODE("Neg", ["x"], ["a"]), *behind], {"x": [1, 16, 9, 11]}, {}, ("y",))
    inputs = feeds(proto)
    ours, lowered = run_ours(proto, inputs)
    assert_close(ours, run_reference(proto, inputs))
    assert not [rule for rule in lowered.rules.values() if rule.startswith("default")]


def test_a_chain_of_functions_stays_short() -> None:
    """Each function of a chain adds what it computes, and is not copied for each use by the next."""

    def length(count: int) -> int:
        nodes = [NODE("Tanh", [f"v{n}"], [f"v{n + 1}"]) for n in range(count)]
        proto = model(nodes, {"v0": [1, 64]}, {}, (f"v{count}",))
        module = lower(import_model(proto), host_machine(), "fp32").module
        return sum(len(str(function)) for _, function in module.functions_items())

    assert length(6) < 2.5 * length(3)


def test_names_become_buffers_but_for_those_inside_a_choice() -> None:
    from tvm import tirx

    out, source = tirx.decl_buffer((4,), "float32", "out"), tirx.decl_buffer((4,), "float32", "source")
    i = tirx.Var("i", "int32")
    free, inner, outer = (tirx.Var(name, "float32") for name in ("free", "inner", "outer"))
    one = tirx.const(1, "float32")
    read = tirx.Let(free, tirx.BufferLoad(source, [i]), free * free)  # only where i lies in the buffer
    value = tirx.Let(outer, tirx.Let(inner, one + one, inner * inner), outer * outer)
    store = tirx.BufferStore(out, value + tirx.if_then_else(i < 4, read, one), [0])
    text = str(stored(tirx.PrimFunc([i, out, source], store)))
    lines = [line.strip() for line in text.splitlines()]
    place = next(n for n, line in enumerate(lines) if line.startswith("once") and "2.0" in line)  # one + one
    assert lines[place + 1].endswith("= once * once")
    assert text.count("T.Let") == 1
    assert "source[i]" in next(line for line in lines if "T.Let" in line)
