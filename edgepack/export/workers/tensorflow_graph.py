"""What the workers of TensorFlow's formats share: tf2onnx, names that do not vary, and inputs to compare on."""

from __future__ import annotations

import sys
from typing import Any

OPSET = 18  # the highest that tf2onnx 1.17 writes
_SIZE = 16  # of a free axis that is not a batch


def run_tf2onnx(job: Any, *words: str) -> None:
    """Convert by tf2onnx's own command. Raises what to tell the user when it does not know an operator."""
    import tf2onnx.convert

    keep_einsums()
    before = sys.argv
    sys.argv = ["tf2onnx", *words, "--output", str(job.model), "--opset", str(OPSET)]
    try:
        tf2onnx.convert.main()
    except (Exception, SystemExit) as error:
        raise refused(job, error) from error
    finally:
        sys.argv = before


def keep_einsums() -> None:
    """Let tf2onnx write an Einsum as one: it takes them apart into sizes, gathers and reshapes that hide a product."""
    from tf2onnx import optimizer

    optimizer._optimizers.pop("einsum_optimizer", None)


def refused(job: Any, error: BaseException, hint: str = "") -> Exception:
    """Return what to raise where tf2onnx failed."""
    words = " ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())[:400]
    hint = hint or "replace the layer that it names, or flatten it into standard operators and export the model again"
    raised: Exception = job.refuse(f"tf2onnx cannot write it as ONNX: {type(error).__name__}: {words}", hint)
    return raised


def clean_names(job: Any, known: Any = None) -> tuple[list[str], list[str]]:
    """Give inputs and outputs the names that the user knows, and return them in the model's order.

    ``known`` are names by those that tf2onnx wrote; others lose what TensorFlow adds.
    """
    import onnx

    proto = onnx.load(str(job.model))
    graph = proto.graph
    _replace_unknown(graph)
    renamed: dict[str, str] = {}
    for value in (*graph.input, *graph.output):
        name = (known or {}).get(value.name) or value.name.partition(":")[0].rpartition("/")[2] or value.name
        name = name[len("serving_default_") :] if name.startswith("serving_default_") else name
        taken = set(renamed.values())
        renamed[value.name] = next(n for n in (name, *(f"{name}_{i}" for i in range(99))) if n not in taken)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renamed.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    onnx.save(proto, str(job.model))
    return [value.name for value in graph.input], [value.name for value in graph.output]


def _replace_unknown(graph: Any) -> None:
    """Write what tf2onnx 1.17 passes on though ONNX does not have it: TensorFlow's Erfc, TensorFlow Lite's GELU."""
    written = {"Erfc": _erfc, "TFL_GELU": _gelu}
    nodes = []
    for node in graph.node:
        nodes += written[node.op_type](graph, node) if node.op_type in written else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _erfc(graph: Any, node: Any) -> list[Any]:
    """Return 1 - Erf."""
    return _chain(graph, node, ("Erf", "x"), ("Sub", 1.0, "last"))


def _gelu(graph: Any, node: Any) -> list[Any]:
    """Return a GELU by erf, or by tanh where the file says approximate (TensorFlow Lite's gelu.h)."""
    if any(one.name.lower() == "approximate" and one.i for one in node.attribute):
        inner = (("Mul", "x", "x"), ("Mul", "last", 0.044715), ("Add", "last", 1.0), ("Mul", "last", "x"))
        gate: tuple[tuple[Any, ...], ...] = (*inner, ("Mul", "last", 0.7978845608), ("Tanh", "last"))  # root of 2 / pi
    else:
        gate = (("Mul", "x", 0.7071067812), ("Erf", "last"))
    return _chain(graph, node, *gate, ("Add", "last", 1.0), ("Mul", "last", "x"), ("Mul", "last", 0.5))


def _chain(graph: Any, node: Any, *steps: tuple[Any, ...]) -> list[Any]:
    """Return nodes in the place of one: each step an operator with the first input, the last result or a number."""
    from onnx import TensorProto, helper

    source, result = node.input[0], node.output[0]
    made: list[Any] = []
    for place, (operator, *operands) in enumerate(steps):
        read = []
        for number, operand in enumerate(operands):
            if isinstance(operand, float):
                name = f"{result}_{place}_{number}"
                graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [operand]))
                read.append(name)
            else:
                read.append(source if operand == "x" else made[-1].output[0])
        output = result if place == len(steps) - 1 else f"{result}_{place}"
        made.append(helper.make_node(operator, read, [output], name=f"{node.name}_{place}"))
    return made


def feeds_for(shape: list[Any], dtype: Any, seed: int, batch: int, factor: int = 1) -> Any:
    """Return seeded random values of a shape whose free sizes are None or -1: the first is the batch."""
    import numpy as np

    random = np.random.default_rng(seed)
    sizes = [
        (batch if axis == 0 else _SIZE * factor) if dim is None or int(dim) < 1 else int(dim)
        for axis, dim in enumerate(shape)
    ]
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.normal(size=sizes).astype(kind)
    if kind.kind == "b":
        return random.random(sizes) < 0.5
    if kind.kind in "OUS":
        return random.choice(np.array(["a", "b", "some text"], object), sizes)
    limits = np.iinfo(kind)
    low, high = (limits.min, limits.max) if kind.itemsize == 1 else (0, 3)  # few: an embedding may be small
    return random.integers(low, high, sizes, endpoint=True).astype(kind)
