"""TEST DOUBLE: tells of each node what it asks for, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepack.engines.common.profile import EngineNode, Profile, repeat
from edgepack.engines.common.requested import AskedLayer, ExecutedLayer
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Array, Feeds, Precision
from toy_engine.engine import read, run

_CONVERSIONS = ("DequantizeLinear", "QuantizeLinear")


def profile(
    path: Path, feeds: Sequence[Feeds], inputs: tuple[TensorSpec, ...], precision: Precision, options: RunOptions,
    device: str,
) -> Profile:  # fmt: skip
    """Run the file and time its nodes; all of them compute in float32."""
    evaluator = read(path)
    times: dict[str, float] = {}
    sizes: dict[str, int] = {}

    def watch(node: Any, seconds: float, arrays: list[Array]) -> None:
        times[node.output[0]] = times.get(node.output[0], 0.0) + seconds
        sizes[node.output[0]] = sum(array.nbytes for array in arrays)

    run(evaluator, feeds[0])
    runs = repeat(lambda feed: run(evaluator, feed, watch), feeds)
    producers = {name: node.output[0] for node in nodes(evaluator) for name in node.output}
    found = [
        EngineNode(
            name=node.output[0],
            originals=(node.name, *node.output),
            kernel=f"toy {node.op_type}",
            executed="fp32",
            time_ns=round(1e9 * times[node.output[0]] / runs),
            moved_bytes=sizes[node.output[0]],
            conversion=node.op_type in _CONVERSIONS,
            before=tuple(producers[name] for name in node.input if name in producers),
        )
        for node in nodes(evaluator)
    ]
    return Profile(tuple(found), runs)


def asked_of(path: Path) -> list[AskedLayer]:
    """Return the operators; one whose first input comes out of a DequantizeLinear asks for int8."""
    evaluator = read(path)
    dequantized = {name for node in nodes(evaluator) if node.op_type == "DequantizeLinear" for name in node.output}
    return [
        AskedLayer(
            ExecutedLayer(
                node.name, node.op_type, node.op_type in ("Conv", "MatMul", "Gemm"),
                "int8" if node.input[0] in dequantized else "fp32", "unknown", "",
            ),
            tuple(node.input),
            tuple(node.output),
        )
        for node in nodes(evaluator)
        if node.op_type not in _CONVERSIONS
    ]  # fmt: skip


def macs_of(path: Path) -> dict[str, int | None]:
    """Return nothing: it does not count."""
    return {}


def nodes(evaluator: Any) -> list[Any]:
    """Return the file's nodes in order."""
    return [node.onnx_node for node in evaluator.rt_nodes_]
