"""Profiles a model in ONNX Runtime: its session's own profile, and the graph that it optimized."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.files import scratch_folder
from edgepack.engines.common.profile import EngineNode, Profile, repeat
from edgepack.engines.onnxruntime.engine import named_in, session_options
from edgepack.errors import CompileError, EdgepackError
from edgepack.graph.captured import leave_out
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Ran

INTEGER_OPERATORS = frozenset(
    {
        "QGemm",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "QEmbedLayerNormalization",
    }
)

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Feeds, Precision

_CONVERSIONS = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput"})
# What the optimizers add to the name of a node or tensor that they replace: layouts, fusions, a counter.
_ADDED = re.compile(r"(_token_[0-9]+|_nchwc|/MatMulAddFusion|/?_?(Insert|fused)_?[A-Za-z]*)$")
_FLOATS: dict[str, Ran] = {"float": "fp32", "double": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_EVENT = "_kernel_time"


def profile(
    path: Path,
    feeds: Sequence[Feeds],
    _inputs: tuple[TensorSpec, ...],
    _precision: Precision,
    options: RunOptions,
    device: str,
) -> Profile:
    """Run the ONNX model in ``path`` with profiling on and return its nodes. Raises ``CompileError``."""
    import onnx
    import onnxruntime

    settings = session_options(options)
    settings.enable_profiling = True
    leave_out(settings, named_in(path))
    with scratch_folder() as folder:
        optimized = folder / "optimized.onnx"
        settings.profile_file_prefix = str(folder / "profile")
        settings.optimized_model_filepath = str(optimized)
        # Large weights go to a file of their own, which is then not read.
        settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        settings.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        provider = "CPUExecutionProvider" if device == "CPU" else device
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
            session.run(None, dict(feeds[0]))
            runs = repeat(lambda feed: session.run(None, dict(feed)), feeds)
            written = session.end_profiling()
        except EdgepackError:
            raise
        except Exception as error:  # its exceptions share no base class
            raise CompileError(f"ONNX Runtime refused {path.name}: {str(error)[:500]}") from error
        events = json.loads(Path(written).read_bytes())
        graph = onnx.load(str(optimized), load_external_data=False).graph
    return Profile(_nodes(graph, _grouped(events)), runs)


def _grouped(events: Any) -> dict[str, list[dict[str, Any]]]:
    """Return a node's events by its name, one a run."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_EVENT):
            grouped.setdefault(name.removesuffix(_EVENT), []).append(event)
    return grouped


def _nodes(graph: Any, events: Mapping[str, list[dict[str, Any]]]) -> tuple[EngineNode, ...]:
    """Return the nodes of the main graph; the time of a control-flow node holds that of its bodies."""
    producers = {name: node.name for node in graph.node for name in node.output if name}
    sizes = {tensor.name: _elements(tensor) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        timed = events.get(node.name, [])
        facts = timed[0].get("args", {}) if timed else {}
        names = (node.name, _ADDED.sub("", node.name), *node.output, *(_ADDED.sub("", name) for name in node.output))
        nodes.append(
            EngineNode(
                name=node.name,
                originals=tuple(dict.fromkeys(name for name in names if name)),
                kernel=node.op_type,
                executed=_executed(node.op_type, facts),
                time_ns=round(1000 * statistics.median(event["dur"] for event in timed[1:])) if timed[1:] else 0,
                moved_bytes=_moved(facts, weights := sum(sizes.get(name, 0) for name in node.input)),
                conversion=node.op_type in _CONVERSIONS or _is_inserted(node),
                before=tuple(dict.fromkeys(producers[name] for name in node.input if name in producers)),
                weight_bytes=weights,
            )
        )
    return tuple(nodes)


def _is_inserted(node: Any) -> bool:
    """Say whether a Transpose was put there by the optimizer, to have channels last."""
    return node.op_type == "Transpose" and _ADDED.sub("", node.name) == "Transpose"


def _executed(operator: str, facts: Mapping[str, Any]) -> Ran:
    types = [kind for tensors in (_types(facts, "input"), _types(facts, "output")) for kind in tensors]
    if operator in INTEGER_OPERATORS or operator.startswith("QLinear"):
        return "int8"
    if operator not in _CONVERSIONS and types and types[0] in ("uint8", "int8"):
        return "int8"  # operators that move values
    return next((_FLOATS[kind] for kind in types if kind in _FLOATS), "unknown")


def _types(facts: Mapping[str, Any], which: str) -> list[str]:
    return [kind for tensor in facts.get(f"{which}_type_shape", ()) for kind in tensor]


def _moved(facts: Mapping[str, Any], weights: int) -> int | None:
    """Return bytes in and out; weights that were packed when loading are not in the engine's own figure."""
    try:
        activations = int(facts["activation_size"]) + int(facts["output_size"])
        return activations + max(weights, int(facts["parameter_size"]))
    except (KeyError, ValueError):
        return None


def _elements(tensor: Any) -> int:
    """Return the bytes of an initializer; its values may be in a file that was not read."""
    import math

    import onnx

    try:
        size: int = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        return size
    except KeyError:
        return 0
