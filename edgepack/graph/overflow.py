"""Finds what overflows or loses in fp16 or bf16, by running the fp32 model on samples and looking at every tensor.

Three questions are asked of every node that could compute in the low precision:

1. Does a tensor that it reads or writes overflow? fp16 ends at 65504 (IEEE 754 binary16); half of that is the limit for
   activations, as other data may be larger than the samples. bf16 has float32's range.
2. Does a tensor lie below the normal range (6.1e-5 in fp16), where digits are lost? Its rounding noise is compared with
   the tensor: normal numbers round with a signal-to-noise ratio of about 73 dB in fp16.
3. Sums over many values, exponentials and normalizations: is the operator accurate when all of its arithmetic is in the
   low precision? onnx's reference implementation computes it in that type on the real inputs. Engines differ here (some
   accumulate in float32), so this is the worst case, as in torch.autocast's list of operators kept in float32.

Convolutions and matrix products are taken to accumulate in float32, as tensor cores, AMX and NEON do.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.errors import ModelError
from edgepack.graph.compare import invent_feeds
from edgepack.graph.narrow import round_array, tensor_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import onnx

    from edgepack.graph.narrow import Low
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array, Progress

SAMPLES = 16
_LARGEST = 65504.0
_HEADROOM = 2.0
# 20 dB (a factor of 10) below what normal numbers round with: 73 dB in fp16, 55 dB in bf16.
_ROUNDING_DB = {"fp16": 53.0, "bf16": 35.0}
# Below this an operator has less than about 7 bits left in fp16, 5 in bf16, which has 8.
_OPERATOR_DB = {"fp16": 45.0, "bf16": 30.0}
_EMULATED_SAMPLES = 2
_FETCHED_AT_ONCE = 64
_BLOCK = 1 << 20
_SENSITIVE = frozenset(
    {
        *("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "CumSum"),
        *("RMSNormalization", "LpNormalization", "MeanVarianceNormalization", "GlobalAveragePool", "Exp", "Log", "Pow"),
        *("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "Sin", "Cos", "Tan"),
    }
)


@dataclass
class _Seen:
    """What was seen of one tensor: its largest finite magnitude, the energy of its values and of their rounding."""

    largest: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, array: Array, precision: Low) -> None:
        flat = array.reshape(-1)
        for start in range(0, flat.size, _BLOCK):  # float64 copies of a whole embedding would fill the memory
            self._add_block(flat[start : start + _BLOCK], precision)

    def _add_block(self, block: Array, precision: Low) -> None:
        import numpy as np

        values = block[np.isfinite(block)].astype(np.float64)  # infinities are infinities in every precision
        if not values.size:
            return
        self.largest = max(self.largest, float(np.abs(values).max()))
        rounded = round_array(values.astype(np.float32), precision).astype(np.float64)
        within = np.isfinite(rounded)
        self.signal += float(np.square(values).sum())
        self.noise += float(np.square(values[within] - rounded[within]).sum())


def find_losses(
    proto: onnx.ModelProto,
    path: Path,
    nodes: frozenset[str],
    feeds: Iterable[Mapping[str, Array]],
    precision: Low,
    progress: Progress,
) -> dict[str, str]:
    """Return, for those of ``nodes`` that must stay in fp32, why.

    ``path`` is ``proto`` as a file, with all float tensors that nodes make among its outputs.
    """
    chosen = [node for node in proto.graph.node if node.name in nodes]
    seen, kept_inputs = _watch(proto, path, chosen, feeds, precision, progress)
    found: dict[str, str] = {}
    for node in chosen:
        reason = _range_reason(node, seen, precision) or _operator_reason(node, proto, kept_inputs, precision)
        if reason:
            found[node.name] = reason
    return found


def invented(model: OnnxModel) -> list[Mapping[str, Array]]:
    """Return one random input, for want of samples. Raises ``ModelError`` when the model accepts none."""
    feeds = invent_feeds(model, batch=1)
    if feeds is None:
        raise ModelError("no random inputs were found that the model accepts", hint="give samples with --data")
    return [feeds]


def made_floats(proto: onnx.ModelProto) -> list[str]:
    """Return the float32 tensors that nodes of the main graph make, in order."""
    types = tensor_types(proto)
    return [name for node in proto.graph.node for name in node.output if types.get(name) == 1]


def _watch(
    proto: onnx.ModelProto,
    path: Path,
    chosen: list[onnx.NodeProto],
    feeds: Iterable[Mapping[str, Array]],
    precision: Low,
    progress: Progress,
) -> tuple[dict[str, _Seen], dict[str, list[Array]]]:
    """Return what was seen of every float tensor, and the first inputs of the sensitive operators."""
    import onnx

    touched = {name for node in chosen for name in (*node.input, *node.output)}
    fetched = [name for name in made_floats(proto) if name in touched]
    sensitive = {name for node in chosen if node.op_type in _SENSITIVE for name in node.input}
    seen = {name: _Seen() for name in touched}
    inputs: dict[str, list[Array]] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in touched and tensor.data_type == onnx.TensorProto.FLOAT:
            seen[tensor.name].add(onnx.numpy_helper.to_array(tensor), precision)
    all_feeds = list(feeds)
    for done, (feed, arrays) in enumerate(_run(path, fetched, all_feeds)):
        progress(precision, done, len(all_feeds))
        for name, array in itertools.chain(feed.items(), arrays):
            if name in touched and array.dtype == "float32":
                seen[name].add(array, precision)
            if name in sensitive and len(inputs.setdefault(name, [])) < _EMULATED_SAMPLES:
                inputs[name].append(array.copy())
    progress(precision, len(all_feeds), len(all_feeds))
    return seen, inputs


def _run(
    path: Path, names: list[str], feeds: list[Mapping[str, Array]]
) -> Iterator[tuple[Mapping[str, Array], Iterator[tuple[str, Array]]]]:
    """Yield each feed with all tensors of ``names``, some at a time so that they need not be held together."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    groups = [names[start : start + _FETCHED_AT_ONCE] for start in range(0, len(names), _FETCHED_AT_ONCE)]

    def arrays(feed: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        for group in groups:
            yield from zip(group, session.run(group, dict(feed)), strict=True)

    for feed in feeds:
        yield feed, arrays(feed)


def _range_reason(node: onnx.NodeProto, seen: Mapping[str, _Seen], precision: Low) -> str:
    for name in (*node.input, *node.output):
        item = seen.get(name)
        if item is None or not item.signal:
            continue
        if precision == "fp16" and item.largest * _HEADROOM > _LARGEST:
            return f"{name} reaches {item.largest:.3g}, fp16 ends at 65504"
        if item.noise and _decibel(item.signal, item.noise) < _ROUNDING_DB[precision]:
            return (
                f"{name} is at most {item.largest:.3g}, below the normal range of {precision} "
                f"({_decibel(item.signal, item.noise):.0f} dB)"
            )
    return ""


def _operator_reason(
    node: onnx.NodeProto, proto: onnx.ModelProto, inputs: Mapping[str, list[Array]], precision: Low
) -> str:
    """Compute a sensitive operator wholly in the low precision on its real inputs, and say when that loses."""
    if node.op_type not in _SENSITIVE:
        return ""
    import numpy as np

    count = min((len(inputs[name]) for name in node.input if name in inputs), default=0)
    signal = noise = 0.0
    for index in range(count):
        feeds = {name: inputs[name][index] for name in node.input if name in inputs}
        expected, found = (_emulate(node, proto, feeds, kind) for kind in (None, precision))
        if expected is None or found is None:
            return f"what {node.op_type} loses in {precision} could not be measured"
        usable = np.isfinite(expected)
        if not np.isfinite(found[usable]).all():
            return f"{node.op_type} overflows inside in {precision}"
        signal += float(np.square(expected[usable]).sum())
        noise += float(np.square(expected[usable] - found[usable]).sum())
    if signal and noise and _decibel(signal, noise) < _OPERATOR_DB[precision]:
        return f"{node.op_type} loses when computed in {precision} ({_decibel(signal, noise):.0f} dB)"
    return ""


def _emulate(
    node: onnx.NodeProto, proto: onnx.ModelProto, feeds: Mapping[str, Array], precision: Low | None
) -> Array | None:
    """Return the first output of one operator, computed by onnx's reference in ``precision`` (None: float64)."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in node.input}
    values: dict[str, Any] = {**stored, **feeds}
    for name, array in values.items():
        if array.dtype == np.float32:
            values[name] = round_array(array, precision) if precision else array.astype(np.float64)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in values.items()
    ]
    out = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UNDEFINED, None)
    graph = onnx.helper.make_graph([node], "one", infos, [out])
    model = onnx.helper.make_model(graph, opset_imports=proto.opset_import)
    try:
        with np.errstate(all="ignore"):
            result = ReferenceEvaluator(model).run([node.output[0]], values)[0]
    except Exception:  # the reference lacks an old version of the operator, or does not take the type
        return None
    return np.asarray(result).astype(np.float64)


def _decibel(signal: float, noise: float) -> float:
    return 10.0 * math.log10(signal / noise)
