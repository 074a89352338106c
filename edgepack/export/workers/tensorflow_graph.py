"""What the workers of TensorFlow's formats share: tf2onnx, names that do not vary, and inputs to compare on."""

from __future__ import annotations

import sys
from typing import Any

OPSET = 18  # the highest that tf2onnx 1.17 writes
_SIZE = 16  # of a free axis that is no batch


def run_tf2onnx(job: Any, *words: str) -> None:
    """Convert by tf2onnx's own command. Raises what to tell the user when it does not know an operator."""
    import tf2onnx.convert

    before = sys.argv
    sys.argv = ["tf2onnx", *words, "--output", str(job.model), "--opset", str(OPSET)]
    try:
        tf2onnx.convert.main()
    except (Exception, SystemExit) as error:
        raise refused(job, error) from error
    finally:
        sys.argv = before


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
    _replace_erfc(graph)
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


def _replace_erfc(graph: Any) -> None:
    """Write 1 - Erf for Erfc, TensorFlow's operator in GELU, which tf2onnx 1.17 passes on though ONNX has none."""
    from onnx import TensorProto, helper

    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Erfc":
            continue
        node.op_type, result = "Erf", node.output[0]
        node.output[0] = f"{result}_erf"
        one = helper.make_tensor(f"{result}_one", TensorProto.FLOAT, [], [1.0])
        graph.initializer.append(one)
        nodes.append(helper.make_node("Sub", [one.name, node.output[0]], [result], name=f"{node.name}_complement"))
    del graph.node[:]
    graph.node.extend(nodes)


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
