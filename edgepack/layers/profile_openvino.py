"""Profiles a model in OpenVINO: its runtime model, and the counters of its inference request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.backends.openvino import device_settings
from edgepack.errors import CompileError
from edgepack.layers.profiled import EngineNode, Profile, repeat
from edgepack.quantize.executed import openvino_facts
from edgepack.specs import Precision, RunOptions

if TYPE_CHECKING:
    from edgepack.specs import Feeds

_CONVERSIONS = frozenset({"Convert", "FakeQuantize", "Reorder"})
_BYTES = {"u8": 1, "i8": 1, "boolean": 1, "f16": 2, "bf16": 2, "f32": 4, "i32": 4, "f64": 8, "i64": 8}


def profile(path: Path, feeds: Sequence[Feeds], precision: Precision, options: RunOptions, device: str) -> Profile:
    """Run the IR in ``path`` with counters on and return its nodes. Raises ``CompileError``."""
    import openvino

    core = openvino.Core()
    try:
        settings = device_settings(core, precision, device, options) | {"PERF_COUNT": True}
        compiled = core.compile_model(str(path), device, settings)
        request = compiled.create_infer_request()
        request.infer(dict(feeds[0]))
        first = _times_us(request)
        runs = repeat(lambda feed: request.infer(dict(feed)), feeds)
        means = _times_us(request)
        operations = compiled.get_runtime_model().get_ordered_ops()
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {path.name}: {str(error)[:500]}") from error
    # A counter is the mean of all inferences since loading; the first, which packs weights, is taken out again.
    times = {name: max(0.0, (mean * (runs + 1) - first.get(name, 0.0)) / runs) for name, mean in means.items()}
    return Profile(_nodes(operations, times), runs)


def _times_us(request: Any) -> dict[str, float]:
    return {info.node_name: info.real_time.total_seconds() * 1e6 for info in request.get_profiling_info()}


def _nodes(operations: Sequence[Any], times: Mapping[str, float]) -> tuple[EngineNode, ...]:
    nodes = []
    for operation in operations:
        executed, kernel, originals = openvino_facts(operation)
        if not kernel:
            continue
        name = operation.get_friendly_name()
        sources = [port.get_source_output().get_node() for port in operation.inputs()]
        nodes.append(
            EngineNode(
                name=name,
                originals=originals,
                kernel=kernel,
                executed=executed,
                time_ns=round(1000 * times.get(name, 0.0)),
                moved_bytes=_moved([operation, *sources]),
                conversion=kernel.partition(" ")[0] in _CONVERSIONS,
                before=tuple(dict.fromkeys(source.get_friendly_name() for source in sources)),
            )
        )
    return tuple(nodes)


def _moved(operations: Sequence[Any]) -> int | None:
    """Return the bytes of all outputs of these operations; None where a shape or type is not fixed."""
    total = 0
    for operation in operations:
        facts = operation.get_rt_info()
        kinds = str(facts["outputPrecisions"].astype(str)).split(",") if "outputPrecisions" in facts else []
        for output, kind in zip(operation.outputs(), kinds, strict=False):
            shape = output.get_partial_shape()
            if kind == "dynamic":
                continue  # a bias or scale that is not there
            if shape.is_dynamic or kind not in _BYTES:
                return None
            total += math.prod(output.get_shape()) * _BYTES[kind]
    return total
