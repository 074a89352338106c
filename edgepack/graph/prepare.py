"""Simplifies a model: constants folded, batch norms folded into convolutions, shapes inferred, nodes named.

Two kept libraries do it, onnxslim 0.1.98 and then ONNX Runtime's own basic optimizations ("basic"): together they gave
the fastest int8 graphs. Measured on 2 cores of an Intel Xeon with AVX512-VNNI, ONNX Runtime 1.31.1, OpenVINO 2026.4.1,
onnxscript 0.7.2, one thread, batch 1; median CPU ms of 12 interleaved rounds of 6 inferences (transformer: 30 of 20).
int8 is ONNX Runtime's own quantizer, per channel, minmax, on that graph. The MobileNetV1 has its batch norms as nodes
of their own; the transformer has 3 encoder layers of width 128, 16 tokens, exported by TorchScript.

===================  =======  ==========  =====  =====  ==========  ==========
int8                 engine   unprepared  basic  slim   slim+basic  onnxscript
===================  =======  ==========  =====  =====  ==========  ==========
EfficientNet-Lite0   ORT      7.28        4.38   4.23   4.35        7.33
EfficientNet-Lite0   OV       6.89        3.27   3.33   3.17        6.63
ResNet20             ORT      0.41        0.46   0.40   0.40        0.34
ResNet20             OV       0.44        0.52   0.40   0.39        0.41
MobileNetV1          ORT      5.37        2.56   2.53   2.47        2.44
MobileNetV1          OV       4.16        1.62   1.62   1.58        1.61
transformer          ORT      0.473       0.447  0.407  0.369       0.414
transformer          OV       0.736       0.723  0.690  0.679       0.703
===================  =======  ==========  =====  =====  ==========  ==========

In fp32 the five are within the noise (below 10 %) everywhere but the transformer in ONNX Runtime (0.442 unprepared,
0.401 slim+basic), since both engines simplify for themselves when they load; Q/DQ nodes in the wrong places are what
they cannot undo. onnxscript leaves the computed paddings of EfficientNet-Lite0 in the graph. ResNet20's and the
transformer's differences below 0.05 ms are noise of a shared machine.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import scratch_folder
from edgepack.base.stage import stage
from edgepack.errors import ModelError
from edgepack.graph import passes
from edgepack.graph.check import first_line
from edgepack.graph.clean import PASSES, SETTLING, clean, in_words
from edgepack.graph.clean.sizes import fold_sizes
from edgepack.graph.compare import differences, invent_feeds, open_model, run_model
from edgepack.graph.epsilons import put_epsilons_last
from edgepack.graph.fold import FOLD_LIMIT_BYTES, optimize_basic
from edgepack.graph.int64_order import order_int64
from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.walk import all_nodes
from edgepack.graph.zero_pads import keep_zero_pads
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Array, Feeds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx

    from edgepack.graph.clean.view import View

_LOG = logging.getLogger(__name__)

# QuantizeLinear per channel (its axis) came with opset 13: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
LOWEST_OPSET = 13
NOTE = "edgepack.prepare"
CLEAN_UP = "clean-up"
_COUNTS = "edgepack.clean"  # until the end of prepare: how often each pass did something
_MOST_ROUNDS = 16
# onnxslim holds the model several times over; larger ones are left to ONNX Runtime alone, with external data.
_LARGE_BYTES = 256 << 20


@stage("prepare", loads=("onnxslim",))
def prepare(model: OnnxModel, out: Path) -> OnnxModel:
    """Return ``model`` simplified, as ``out/model.onnx``; it computes the same, with the same inputs and outputs.

    The opset is raised to 13 when it is lower, 8-bit weights behind a DequantizeLinear become float, every node has a
    name of its own. A model with quantized activations is only named and shape-inferred. A step that fails, or changes
    the outputs for random inputs by more than rounding, is left out: the metadata entry ``edgepack.prepare`` says what
    was done and why not more. Raises ``ModelError`` when the result is not a valid model.
    """
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".prepare.", out) as scratch:
        start, notes = _start(model, Path(scratch))
        if not passes.is_quantized(read_proto(start, weights=False)):
            start, steps = _simplify(model, start, Path(scratch))
            notes += steps
        return _finish(read_proto(start), notes, out)


@stage("prepare")
def prepare_plain(model: OnnxModel, out: Path) -> OnnxModel:
    """Return ``model`` as ``prepare`` does, not simplified: named, with shapes, at an opset that can be quantized."""
    out.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".prepare.", out) as scratch:
        start, notes = _start(model, Path(scratch))
        proto = read_proto(start)
        if not passes.is_quantized(proto):
            if model.opset < LOWEST_OPSET:
                proto = read_proto(_raise_opset(start, Path(scratch)))
            passes.constants_to_initializers(proto)
            notes.append("not simplified")
        return _finish(proto, notes, out)


def _start(model: OnnxModel, scratch: Path) -> tuple[OnnxModel, list[str]]:
    """Return the model cleaned, as what the simplifiers and ONNX Runtime read; and what was done to it."""
    proto = read_proto(model)
    passes.drop_notes(proto)
    passes.forget_unnamed(proto)
    passes.freeze_initializers(proto)
    passes.name_nodes(proto)
    passes.set_versions(proto)
    _keep_right(proto)
    quantized = passes.is_quantized(proto)
    notes = ["kept as it is: already quantized"] if quantized else []
    if not quantized and (folded := passes.fold_dequantized_weights(proto)):
        notes.append(f"{folded} compressed weights made float")
    # ONNX Runtime maps external data, and holds what is inside the file twice while it loads.
    large = model.size_bytes > _LARGE_BYTES
    return save_proto(proto, scratch, "start.onnx", external_data=large, durable=False), notes


def _keep_right(proto: onnx.ModelProto) -> None:
    """Write, in place, what ONNX Runtime gets wrong or its optimizer would change so that it does not."""
    keep_zero_pads(proto)
    put_epsilons_last(proto)
    order_int64(proto)


def _simplify(model: OnnxModel, current: OnnxModel, scratch: Path) -> tuple[OnnxModel, list[str]]:
    """Apply the steps one after another, each checked against the original, and return the last good one with notes.

    A large original, or one that ONNX Runtime does not run, is represented by its cleaned form.
    """
    notes = []
    sources = (current,) if model.size_bytes > _LARGE_BYTES else (model, current)
    original, feeds = next(((source, feeds) for source in sources if (feeds := invent_feeds(source))), (model, None))
    if feeds is None:
        notes.append("outputs not compared: no inputs could be invented")
    expected = run_model(original, feeds, optimize=False) if feeds is not None else {}
    start = current
    for index, (name, step) in enumerate(_steps(model)):
        try:
            folder = scratch / str(index)
            folder.mkdir()
            changed = step(current, folder)
            _check_same(original, current, changed, feeds, expected)
        except Exception as error:  # a simplifier may raise anything; the model is good without it
            reason = first_line(error)
            _LOG.warning("%s: left out %s: %s", model.path.name, name, reason)
            notes.append(f"without {name}: {reason}")
        else:
            if changed is current:
                continue  # it found nothing to do
            done = in_words(_counts(changed)) if name == CLEAN_UP else ""
            notes.append(f"{name} ({done})" if done else name)
            _LOG.info("%s: %s", model.path.name, notes[-1])
            current = changed
    if feeds is not None and current is not start and (reason := _refused(current)) and not _refused(start):
        _LOG.warning("%s: left as it was: %s", model.path.name, reason)
        return start, [f"not simplified, as ONNX Runtime's optimizer refuses what comes of it: {reason}"]
    return current, notes


def _refused(model: OnnxModel) -> str:
    """Return why ONNX Runtime does not load a model, its own optimizations included; "" where it does."""
    try:
        open_model(model)
    except Exception as error:  # its errors have no common base
        return first_line(error)
    return ""


def _steps(model: OnnxModel) -> Iterator[tuple[str, Callable[[OnnxModel, Path], OnnxModel]]]:
    """Yield the name and the function of every step that this model needs."""
    if model.opset < LOWEST_OPSET:
        yield f"opset {LOWEST_OPSET}", _raise_opset
    if model.size_bytes <= _LARGE_BYTES:
        yield "static shapes", _fold_sizes
        yield CLEAN_UP, _clean
        yield "onnxslim", _slim
    yield "ONNX Runtime basic", optimize_basic
    if model.size_bytes <= _LARGE_BYTES:
        yield CLEAN_UP, _settle


def _raise_opset(model: OnnxModel, folder: Path) -> OnnxModel:
    proto = passes.raise_opset(read_proto(model), LOWEST_OPSET)
    _keep_right(proto)
    return save_proto(proto, folder, durable=False)


def _fold_sizes(model: OnnxModel, folder: Path) -> OnnxModel:
    """Replace sizes that the graph asks for at run time by those that are known, and fold what is computed of them.

    What follows becomes known by that, so it is done again until nothing is left.
    """
    for index in range(_MOST_ROUNDS):
        proto = read_proto(model)
        if not fold_sizes(proto):
            break
        place = folder / str(index)
        place.mkdir()
        model = optimize_basic(save_proto(proto, place, durable=False), place)
    return model


def _clean(model: OnnxModel, folder: Path) -> OnnxModel:
    return _cleaned(model, folder, PASSES)


def _settle(model: OnnxModel, folder: Path) -> OnnxModel:
    return _cleaned(model, folder, SETTLING)


def _cleaned(model: OnnxModel, folder: Path, chosen: dict[str, Callable[[View], bool]]) -> OnnxModel:
    proto = read_proto(model)
    passes.constants_to_initializers(proto)
    counts = clean(proto, chosen)
    if not in_words(counts):
        return model
    passes.set_metadata(proto, _COUNTS, json.dumps(counts))
    return save_proto(proto, folder, durable=False)


def _counts(model: OnnxModel) -> dict[str, int]:
    entries = read_proto(model, weights=False).metadata_props
    return next((json.loads(entry.value) for entry in entries if entry.key == _COUNTS), {})


def _slim(model: OnnxModel, folder: Path) -> OnnxModel:
    import onnxslim

    return save_proto(onnxslim.slim(str(model.path), size_threshold=FOLD_LIMIT_BYTES), folder, durable=False)


def _check_same(
    original: OnnxModel, before: OnnxModel, after: OnnxModel, feeds: Feeds | None, expected: Mapping[str, Array]
) -> None:
    """Raise ``ModelError`` unless ``after`` has the original's interface and outputs, and no new operator domains."""
    names = [spec.name for spec in (*original.inputs, *original.outputs)]
    if [spec.name for spec in (*after.inputs, *after.outputs)] != names:
        raise ModelError("it changed the inputs or outputs")
    if added := _domains(after) - _domains(before):
        raise ModelError(f"it used operators of {', '.join(sorted(added))}")
    if feeds is None:
        return
    if found := differences(expected, run_model(after, feeds, optimize=False)):
        raise ModelError(f"it changed the outputs: {found[0]}")


def _domains(model: OnnxModel) -> set[str]:
    return {node.domain for node in all_nodes(read_proto(model, weights=False))} - {"ai.onnx"} | {""}


def _finish(proto: onnx.ModelProto, notes: list[str], out: Path) -> OnnxModel:
    """Name the nodes, write the shapes and the note, and save."""
    passes.drop_notes(proto)
    passes.set_versions(proto)
    passes.name_nodes(proto)
    passes.infer_shapes(proto)
    _keep_right(proto)
    kept = [entry for entry in proto.metadata_props if entry.key != _COUNTS]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    passes.set_metadata(proto, NOTE, "; ".join(notes) or "nothing to do")
    return save_proto(proto, out)
