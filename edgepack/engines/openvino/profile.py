"""Profiles a model in OpenVINO: its runtime model, and the counters of its inference request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.engines.common.fixed_batch import free_batch
from edgepack.engines.common.profile import EngineNode, Profile, repeat
from edgepack.engines.openvino.engine import device_settings, with_batch
from edgepack.engines.openvino.ir import asked_of_ir, openvino_facts
from edgepack.engines.openvino.macs import ir_macs
from edgepack.errors import CompileError
from edgepack.specs.run import RunOptions
from edgepack.specs.types import Precision

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Feeds

_CONVERSIONS = frozenset({"Convert", "FakeQuantize", "Reorder"})
_BYTES = {"u8": 1, "i8": 1, "boolean": 1, "f16": 2, "bf16": 2, "f32": 4, "i32": 4, "f64": 8, "i64": 8}


asked_of = asked_of_ir
macs_of = ir_macs


def profile(
    path: Path,
    feeds: Sequence[Feeds],
    inputs: tuple[TensorSpec, ...],
    precision: Precision,
    options: RunOptions,
    device: str,
) -> Profile:
    """Run the IR in ``path`` with counters on and return its nodes, loaded for the batch of ``feeds`` as runners are.

    Raises ``CompileError``.
    """
    import openvino

    core = openvino.Core()
    try:
        settings = device_settings(core, precision, device, options) | {"PERF_COUNT": True}
        batch = feeds[0][inputs[0].name].shape[0] if free_batch(inputs) else 0
        fixed = with_batch(core, path, inputs, batch if options.fixed_batch in (None, batch) else 0)
        compiled = core.compile_model(str(path) if fixed is None else fixed, device, settings)
        request = compiled.create_infer_request()
        request.infer(dict(feeds[0]))
        first = _times_us(request)
        runs = repeat(lambda feed: request.infer(dict(feed)), feeds)
        means = _times_us(request)
        operations = compiled.get_runtime_model().get_ordered_ops()
        sizes = _fixed_sizes(core, path, feeds[0], device, settings) if _is_free(compiled) else {}
    except RuntimeError as error:
        raise CompileError(f"OpenVINO refused {path.name}: {str(error)[:500]}") from error
    # A counter is the mean of all inferences since loading; the first, which packs weights, is taken out again.
    times = {name: max(0.0, (mean * (runs + 1) - first.get(name, 0.0)) / runs) for name, mean in means.items()}
    return Profile(_nodes(operations, times, sizes), runs)


def _is_free(compiled: Any) -> bool:
    """Say whether a compiled model leaves a dimension of an input free, so that its nodes do not tell their sizes."""
    return any(port.get_partial_shape().is_dynamic for port in compiled.inputs)


def _fixed_sizes(core: Any, path: Path, feed: Feeds, device: str, settings: Any) -> dict[str, tuple[int | None, int]]:
    """Return by a node's name the bytes that it moves, and of them the weights, for inputs of the shapes of ``feed``.

    They are those of the same model compiled for these shapes alone, whose nodes have the same names.
    """
    model = core.read_model(str(path))
    shapes = {i: list(feed[name].shape) for i, port in enumerate(model.inputs) for name in port.get_names() & {*feed}}
    model.reshape(shapes)
    fixed = core.compile_model(model, device, settings).get_runtime_model().get_ordered_ops()
    return {operation.get_friendly_name(): (_moved(operation), _weights(operation)) for operation in fixed}


def _times_us(request: Any) -> dict[str, float]:
    return {info.node_name: info.real_time.total_seconds() * 1e6 for info in request.get_profiling_info()}


def _nodes(
    operations: Sequence[Any], times: Mapping[str, float], sizes: Mapping[str, tuple[int | None, int]]
) -> tuple[EngineNode, ...]:
    nodes = []
    for operation in operations:
        executed, kernel, originals = openvino_facts(operation)
        if not kernel:
            continue
        name = operation.get_friendly_name()
        moved, weights = sizes.get(name) or (_moved(operation), _weights(operation))
        nodes.append(
            EngineNode(
                name=name,
                originals=originals,
                kernel=kernel,
                executed=executed,
                time_ns=round(1000 * times.get(name, 0.0)),
                moved_bytes=moved,
                conversion=kernel.partition(" ")[0] in _CONVERSIONS,
                before=tuple(dict.fromkeys(source.get_friendly_name() for source in _sources(operation))),
                weight_bytes=weights,
            )
        )
    return tuple(nodes)


def _sources(operation: Any) -> list[Any]:
    return [port.get_source_output().get_node() for port in operation.inputs()]


def _moved(operation: Any) -> int | None:
    """Return the bytes of what an operation reads and makes; None where a shape or type is not fixed."""
    return _made([operation, *_sources(operation)])


def _weights(operation: Any) -> int:
    """Return the bytes of what an operation reads that is stored in the model."""
    return _made([source for source in _sources(operation) if _is_stored(source)]) or 0


def _is_stored(operation: Any) -> bool:
    facts = operation.get_rt_info()
    return "layerType" in facts and str(facts["layerType"].astype(str)) == "Const"


def _made(operations: Sequence[Any]) -> int | None:
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
