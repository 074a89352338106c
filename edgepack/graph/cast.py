"""Casts an fp32 model to fp16 or bf16 in the graph, keeping in fp32 what overflows or loses on samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.errors import ConfigError, ModelError
from edgepack.graph import overflow, passes
from edgepack.graph.check import first_line
from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.narrow import Low, lower, lowerable
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Precision, Progress, no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from edgepack.specs.types import Array

NOTE = "edgepack.precision"
# The key under which the quantizer, too, says what it left in float: JSON, node name -> reason.
LEFT_KEY = "edgepack_left_in_float"
# Convolution and pooling take bfloat16 from opset 22 on: https://onnx.ai/onnx/operators/onnx__Conv.html
_BF16_OPSET = 22


def cast(
    model: OnnxModel,
    precision: Precision,
    feeds: Sequence[Mapping[str, Array]],
    out: Path,
    progress: Progress = no_progress,
) -> OnnxModel:
    """Return ``model`` computing in ``precision`` ("fp16" or "bf16"), as ``out/model.onnx``.

    Weights are stored in it, the casts are nodes, inputs and outputs stay float32. Nodes that ``overflow.py`` finds
    wanting on ``feeds`` (on one random input without any) stay in fp32; the metadata entry
    ``edgepack_left_in_float`` holds them with the reason, ``edgepack.precision`` what was measured: the SQNR in dB of
    every output when all low values are rounded and sums are in fp32. (For EfficientNet-Lite0 that says 51.7 dB in fp16
    and 36.7 in bf16; OpenVINO 2026.4.1 on a Xeon with AMX gave 52.4 and 36.7, n=1 random input.) ONNX Runtime on a CPU
    runs fp16 by casting most nodes back to fp32, and has no bf16 convolution. bf16 raises the opset to 22. Raises
    ``ModelError`` for a quantized model, ``ConfigError`` for another precision.
    """
    low = _check(precision)
    proto = read_proto(model)
    if passes.is_quantized(proto):
        raise ModelError(f"a quantized model cannot be cast to {low}", hint="give the fp32 model")
    proto = _ready(proto, low)
    samples = len(feeds)
    feeds = feeds or overflow.invented(model)
    obstacles = lowerable(proto, low)
    free = frozenset(name for name, obstacle in obstacles.items() if not obstacle)
    with scratch_folder() as scratch:
        watched = _save_watched(proto, Path(scratch))
        found = overflow.find_losses(proto, watched.path, free, feeds, low, progress)
        chosen = free - set(found)
        sqnr = _measure(proto, model, chosen, low, feeds, Path(scratch))
    kept = {name: reason for name, reason in {**obstacles, **found}.items() if reason}
    result = lower(proto, chosen, low)
    note = {"precision": low, "samples": samples, "lowered": len(chosen), "sqnr_db": sqnr}
    passes.set_metadata(result, NOTE, json.dumps(note, sort_keys=True))
    passes.set_metadata(result, LEFT_KEY, json.dumps(kept, sort_keys=True))
    passes.set_versions(result)
    passes.infer_shapes(result)
    return save_proto(result, out)


def _check(precision: Precision) -> Low:
    if precision in ("fp16", "bf16"):
        return precision
    raise ConfigError(f"a model cannot be cast to {precision}", hint="fp16 or bf16; int8 is what 'quantize' makes")


def _ready(proto: onnx.ModelProto, low: Low) -> onnx.ModelProto:
    """Return ``proto`` with constants as initializers, named nodes, types, and an opset that has the precision."""
    passes.freeze_initializers(proto)
    passes.constants_to_initializers(proto)
    passes.name_nodes(proto)
    if low == "bf16" and max((o.version for o in proto.opset_import if not o.domain), default=1) < _BF16_OPSET:
        try:
            proto = passes.raise_opset(proto, _BF16_OPSET)
        except Exception as error:  # onnx's converter raises RuntimeError and others
            raise ModelError(
                f"bf16 needs opset {_BF16_OPSET}, to which the model cannot be raised: {first_line(error)}",
                hint="export it with a higher opset, or use fp16",
            ) from error
    passes.set_versions(proto)
    passes.name_nodes(proto)
    passes.infer_shapes(proto)
    return proto


def _save_watched(proto: onnx.ModelProto, folder: Path) -> OnnxModel:
    """Save ``proto`` with all the float tensors that its nodes make as outputs."""
    graph = proto.graph
    count, known, made = len(graph.output), {value.name for value in graph.output}, set(overflow.made_floats(proto))
    graph.output.extend(value for value in graph.value_info if value.name in made - known)
    try:
        return save_proto(proto, folder, "watched.onnx", external_data=True, durable=False)
    finally:
        del graph.output[count:]


def _measure(
    proto: onnx.ModelProto,
    model: OnnxModel,
    chosen: frozenset[str],
    low: Low,
    feeds: Iterable[Mapping[str, Array]],
    folder: Path,
) -> dict[str, float | None]:
    """Return the SQNR of each float output with every low value rounded; None where nothing was lost."""
    import numpy as np

    from edgepack.graph.compare import run_model

    rounded = save_proto(
        lower(proto, chosen, low, simulate=True), folder, "rounded.onnx", external_data=True, durable=False
    )
    signal = dict.fromkeys((spec.name for spec in model.outputs if spec.dtype == "float32"), 0.0)
    noise = dict(signal)
    for feed in feeds:
        expected, found = run_model(model, feed), run_model(rounded, feed)
        for name in signal:
            usable = np.isfinite(expected[name])
            difference = (expected[name] - found[name])[usable].astype(np.float64)
            signal[name] += float(np.square(expected[name][usable].astype(np.float64)).sum())
            noise[name] += float(np.square(difference).sum())
    return {
        name: round(float(10 * np.log10(signal[name] / noise[name])), 2) if noise[name] and signal[name] else None
        for name in sorted(signal)
    }
