"""Unrolls LSTM, GRU and RNN over a fixed number of steps, into operators that TVM has.

Equations, gate orders and defaults are those of the ONNX operators (onnx.ai, LSTM-14, GRU-14, RNN-14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.onnx.edit import Rewriter, attributes_of, optional

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}  # gates
MOST_STEPS = 512
_DEFAULTS = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}


@dataclass(frozen=True)
class _Cell:
    """One direction of one node: its inputs by name."""

    kind: str
    projected: str  # the inputs of all steps times W, biases added: [steps, batch, gates * hidden]
    recurrent: str  # R transposed: [hidden, gates * hidden]
    bias: str  # GRU with linear_before_reset: the recurrent bias of the hidden gate
    hidden: int
    reset_first: bool


def unroll_recurrent(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int | str, ...]]) -> bool:
    """Replace the nodes that can be unrolled; say whether there were any. ``shapes`` are of the graph's tensors."""
    if not any(node.op_type in RECURRENT and why_not(node, shapes) is None for node in proto.graph.node):
        return False
    rewriter = Rewriter(proto.graph)
    for node in proto.graph.node:
        if node.op_type in RECURRENT and why_not(node, shapes) is None:
            _unroll(rewriter, node, shapes[node.input[0]])
        else:
            rewriter.keep(node)
    rewriter.finish()
    return True


def why_not(node: onnx.NodeProto, shapes: Mapping[str, tuple[int | str, ...]]) -> str | None:
    """Return why a recurrent node is not unrolled; None when it is."""
    attributes = attributes_of(node)
    shape = shapes.get(node.input[0], ())
    steps = shape[1 if attributes.get("layout") else 0] if len(shape) == 3 else "?"
    directions = 2 if attributes.get("direction", b"") == b"bidirectional" else 1
    wanted = [name.decode() for name in attributes.get("activations", ())]
    if not all(isinstance(size, int) for size in shape) or not isinstance(steps, int):
        return f"{node.op_type} over a number of steps that is not fixed"
    if steps > MOST_STEPS:
        return f"{node.op_type} over {steps} steps (at most {MOST_STEPS} are unrolled)"
    defaults = list(_DEFAULTS[node.op_type]) * directions
    if wanted and wanted[: len(defaults)] != defaults:  # RNN's own default has two for one direction
        return f"{node.op_type} with the activations {', '.join(wanted)}"
    if optional(node, 4) or optional(node, 7):
        return f"{node.op_type} with {'sequence lengths' if optional(node, 4) else 'peepholes'}"
    if attributes.get("clip") or attributes.get("input_forget"):
        return f"{node.op_type} with {'clip' if attributes.get('clip') else 'input_forget'}"
    return None


def _unroll(rewriter: Rewriter, node: onnx.NodeProto, shape: tuple[Any, ...]) -> None:
    attributes = attributes_of(node)
    kind, hidden = node.op_type, int(attributes["hidden_size"])
    batch_first = bool(attributes.get("layout"))
    steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
    direction = attributes.get("direction", b"forward").decode()
    x = node.input[0]
    if batch_first:
        x = rewriter.add("Transpose", [x], f"{node.name}.x", {"perm": [1, 0, 2]})
    sequences, hiddens, cells = [], [], []
    for index, backwards in enumerate({"forward": [False], "reverse": [True]}.get(direction, [False, True])):
        cell = _prepare(rewriter, node, x, index, hidden)
        h = _state(rewriter, node, 5, index, batch, hidden, batch_first)
        c = _state(rewriter, node, 6, index, batch, hidden, batch_first) if kind == "LSTM" else ""
        outputs = [""] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            h, c = _step(rewriter, cell, t, h, c, f"{node.name}.{index}.{t}")
            outputs[t] = _unsqueeze(rewriter, h, [0, 1])
        sequences.append(rewriter.add("Concat", outputs, f"{node.name}.y", {"axis": 0}))
        hiddens.append(_unsqueeze(rewriter, h, [0]))
        cells.append(_unsqueeze(rewriter, c, [0]) if c else "")
    _finish(rewriter, node, (sequences, 1, [2, 0, 1, 3]), 0, batch_first)
    _finish(rewriter, node, (hiddens, 0, [1, 0, 2]), 1, batch_first)
    if kind == "LSTM":
        _finish(rewriter, node, (cells, 0, [1, 0, 2]), 2, batch_first)


def _prepare(rewriter: Rewriter, node: onnx.NodeProto, x: str, index: int, hidden: int) -> _Cell:
    """Multiply the inputs of all steps by W at once, with the biases that do not depend on the state."""
    kind = node.op_type
    gates = RECURRENT[kind]
    reset_first = not attributes_of(node).get("linear_before_reset")
    w = _transposed(rewriter, _direction(rewriter, node.input[1], index))
    r = _transposed(rewriter, _direction(rewriter, node.input[2], index))
    projected = rewriter.add("MatMul", [x, w], f"{node.name}.projected")
    late = ""
    if bias := optional(node, 3):
        both = _direction(rewriter, bias, index)
        width = gates * hidden
        of_input, of_state = _slice(rewriter, both, 0, width), _slice(rewriter, both, width, 2 * width)
        if kind == "GRU" and not reset_first:
            late = _slice(rewriter, of_state, 2 * hidden, width)
            zeros = rewriter.constant(np.zeros(hidden, np.float32), f"{node.name}.zeros")
            early = _slice(rewriter, of_state, 0, 2 * hidden)
            of_state = rewriter.add("Concat", [early, zeros], f"{node.name}.bias", {"axis": 0})
        projected = rewriter.add("Add", [projected, of_input], f"{node.name}.projected")
        projected = rewriter.add("Add", [projected, of_state], f"{node.name}.projected")
    return _Cell(kind, projected, r, late, hidden, reset_first)


def _step(rewriter: Rewriter, cell: _Cell, t: int, h: str, c: str, name: str) -> tuple[str, str]:
    """Return the states after one step."""
    add, hidden = rewriter.add, cell.hidden
    at = rewriter.constant(np.array(t, np.int64), f"{name}.t")
    x = add("Gather", [cell.projected, at], f"{name}.x", {"axis": 0})
    if cell.kind == "GRU":
        return _gru_step(rewriter, cell, x, h, name), ""
    total = add("Add", [x, add("MatMul", [h, cell.recurrent], f"{name}.r")], f"{name}.gates")
    if cell.kind == "RNN":
        return add("Tanh", [total], f"{name}.h"), ""
    i, o, f, g = (_slice(rewriter, total, k * hidden, (k + 1) * hidden, axis=1) for k in range(4))
    i, o, f = (add("Sigmoid", [gate], f"{name}.gate") for gate in (i, o, f))
    kept = add("Mul", [f, c], f"{name}.kept")
    new = add("Mul", [i, add("Tanh", [g], f"{name}.g")], f"{name}.new")
    c = add("Add", [kept, new], f"{name}.c")
    return add("Mul", [o, add("Tanh", [c], f"{name}.tanh")], f"{name}.h"), c


def _gru_step(rewriter: Rewriter, cell: _Cell, x: str, h: str, name: str) -> str:
    add, hidden = rewriter.add, cell.hidden
    wide = 2 * hidden
    r_zr = _slice(rewriter, cell.recurrent, 0, wide, axis=1)
    r_h = _slice(rewriter, cell.recurrent, wide, 3 * hidden, axis=1)
    x_zr, x_h = _slice(rewriter, x, 0, wide, axis=1), _slice(rewriter, x, wide, 3 * hidden, axis=1)
    zr = add("Sigmoid", [add("Add", [x_zr, add("MatMul", [h, r_zr], f"{name}.r")], f"{name}.zr")], f"{name}.zr")
    z, r = _slice(rewriter, zr, 0, hidden, axis=1), _slice(rewriter, zr, hidden, wide, axis=1)
    if cell.reset_first:
        state = add("MatMul", [add("Mul", [r, h], f"{name}.reset"), r_h], f"{name}.state")
    else:
        state = add("MatMul", [h, r_h], f"{name}.state")
        if cell.bias:
            state = add("Add", [state, cell.bias], f"{name}.state")
        state = add("Mul", [r, state], f"{name}.reset")
    new = add("Tanh", [add("Add", [x_h, state], f"{name}.sum")], f"{name}.new")
    # (1 - z) * new + z * h
    difference = add("Sub", [h, new], f"{name}.difference")
    return add("Add", [new, add("Mul", [z, difference], f"{name}.change")], f"{name}.h")


def _finish(
    rewriter: Rewriter, node: onnx.NodeProto, pieces: tuple[list[str], int, list[int]], index: int, batch_first: bool
) -> None:
    """Join the directions into an output of the node, in its layout."""
    names, axis, order = pieces
    if index >= len(node.output) or not node.output[index]:
        return
    output = str(node.output[index])
    if batch_first:
        joined = rewriter.add("Concat", names, f"{output}.joined", {"axis": axis})
        rewriter.add("Transpose", [joined], [output], {"perm": order})
    else:
        rewriter.add("Concat", names, [output], {"axis": axis})


def _state(
    rewriter: Rewriter, node: onnx.NodeProto, index: int, direction: int, batch: int, hidden: int, batch_first: bool
) -> str:
    """Return an initial state [batch, hidden] of one direction: the node's input, else zeros."""
    if given := optional(node, index):
        at = rewriter.constant(np.array(direction, np.int64), f"{node.name}.direction")
        return rewriter.add("Gather", [given, at], f"{node.name}.state", {"axis": 1 if batch_first else 0})
    return rewriter.constant(np.zeros((batch, hidden), np.float32), f"{node.name}.state")


def _direction(rewriter: Rewriter, name: str, index: int) -> str:
    at = rewriter.constant(np.array(index, np.int64), f"{name}.direction")
    return rewriter.add("Gather", [name, at], f"{name}.{index}", {"axis": 0})


def _transposed(rewriter: Rewriter, name: str) -> str:
    return rewriter.add("Transpose", [name], f"{name}.t", {"perm": [1, 0]})


def _slice(rewriter: Rewriter, name: str, start: int, end: int, axis: int = 0) -> str:
    bounds = [rewriter.constant(np.array([value], np.int64), f"{name}.bound") for value in (start, end, axis)]
    return rewriter.add("Slice", [name, *bounds], f"{name}.part")


def _unsqueeze(rewriter: Rewriter, name: str, axes: list[int]) -> str:
    at = rewriter.constant(np.array(axes, np.int64), f"{name}.axes")
    return rewriter.add("Unsqueeze", [name, at], f"{name}.wide")
