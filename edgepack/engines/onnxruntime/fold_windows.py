"""Lays the rows of a convolution's windows into channels, so that ONNX Runtime takes its quick int8 kernel.

No result changes: the same integers are summed, in another order. The symmetric kernel takes whole blocks of 4 input
channels (``fill_channels.py``); a spectrogram or a grey picture has one, a picture three, and for them the window of
each pixel is copied byte by byte. One Gather of whole rows makes each row of the windows a channel: a window of 10 x 4
on one channel becomes one of 1 x 4 on twelve, two of them zeros, and stride and dilation along the rows are done by
then.

Where a CPU adds two products in 16 bits the order counts: weights that cannot saturate there
(``quantize/saturation.py``) are safe beside the neighbours that they had. Such targets keep their windows, and so do
those with ARM, on which nothing was measured.

Times of a first layer and a small one behind it without and with this, 1.31.1, one thread, 2-core AMD EPYC VM (AVX-512,
VNNI, no AMX), others at work on it, CPU time, medians of 11 to 15 turns:

- one channel, 64 x 64 to 32 channels, strides of 1, 3 x 1: 2.6; 2 x 2: 1.7; 5 x 5 on 100 x 100 with strides of 5: 1.4;
- three channels, the Pad of ``fill_channels.py`` against this: 3 x 3 on 352 x 352 1.18, on 16 x 16 0.96; 7 x 7 on
  224 x 224 2.1;
- 5 to 15 channels: 1.13 to 1.7. To 4 or 8 channels only: 1.13 to 1.3;
- 9 x 39 on 40 columns 0.79, 9 x 37 0.93, 9 x 30 1.2: what is as wide as the input is copied by the row already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.engines.onnxruntime.int8_layers import Layer, int8_layers, integers, replace
from edgepack.graph.clean.view import View, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.target import Target
    from edgepack.specs.types import Array

_BLOCK = 4
_MOST_CHANNELS = 15  # more were not measured to gain
_MOST_ZEROS = 2  # times as many channels as there are rows in a window
PAD_OPSET = 11  # from which on Pad takes bytes, and its pads as an input
_NARROW = 4  # of outputs narrower than windows by this the windows are copied by the row already


def may_fold(target: Target) -> bool:
    """Return whether a target's int8 layers may be folded: those of x86 CPUs whose sums of products do not saturate."""
    return target.arch == "x86_64" and not target.quantization.saturates


def fold_windows(proto: onnx.ModelProto) -> int:
    """Fold in place where that makes the main graph faster; return how many layers. Constants without a reader stay."""
    view = View(proto)
    candidates = [layer for layer in int8_layers(view) if _is_candidate(layer)]
    if any(layer.node.input[0] not in view.types for layer in candidates):
        view.infer()
        view = View(proto)
    folds = [fold for layer in candidates if (fold := _fold_of(view, layer)) is not None]
    for fold in folds:
        _fold(view, fold)
    if folds:
        del proto.graph.value_info[:]  # their shapes are those of before
    view = View(proto)
    for pair in {fold.pair.output[0]: fold.pair for fold in folds}.values():
        if view.is_free(pair.output[0]) and not view.users.get(pair.output[0]):
            view.remove(pair)
    return len(folds)


@dataclass(frozen=True)
class _Fold:
    """A layer, the pair of bytes that it reads, and the rows of the bytes, padding among them, that become channels."""

    layer: Layer
    pair: onnx.NodeProto
    zero: Array
    pads: tuple[int, int]
    all_rows: int  # of all channels
    rows: Array  # by channel of the folded layer and by row of its output


def _is_candidate(layer: Layer) -> bool:
    _, read, *window = layer.shape
    few = read % _BLOCK and read <= _MOST_CHANNELS
    return bool(few) and layer.groups == 1 and len(window) == 2 and max(window) > 1


def _fold_of(view: View, layer: Layer) -> _Fold | None:
    """Return how a layer is folded; None where nothing is gained, or it does not read bytes, their rows counted."""
    node = layer.node
    pair = view.producers.get(node.input[0])
    kind = view.types.get(node.input[0])
    if pair is None or pair.op_type != "DequantizeLinear" or len(pair.input) < 3 or kind is None:
        return None
    zero = view.value(pair.input[2])
    sizes = [size.dim_value for size in kind.shape.dim]
    explicit = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    if zero is None or zero.size != 1 or zero.dtype.itemsize != 1 or len(sizes) != 4 or not sizes[2] or not explicit:
        return None
    _, channels, *window = layer.shape
    pads, strides, steps = (
        attribute(node, name, [default] * length)
        for name, default, length in (("pads", 0, 4), ("strides", 1, 2), ("dilations", 1, 2))
    )
    padded = [size + pads[axis] + pads[axis + 2] for axis, size in enumerate(sizes[2:])]
    made = [(padded[axis] - steps[axis] * (window[axis] - 1) - 1) // strides[axis] + 1 for axis in (0, 1)]
    narrow = sizes[3] and made[1] * _NARROW < window[1]
    taps = channels * window[0]
    if view.opset < PAD_OPSET and (pads[0] or pads[2]):
        return None
    if made[0] < 1 or narrow or taps + -taps % _BLOCK > _MOST_ZEROS * taps:
        return None
    windows = np.arange(window[0])[:, None] * steps[0] + np.arange(made[0]) * strides[0]
    rows = (np.arange(channels)[:, None, None] * padded[0] + windows).reshape(taps, made[0])
    rows = np.pad(rows, ((0, -taps % _BLOCK), (0, 0)))  # what is read by weights of zero
    return _Fold(layer, pair, zero.reshape(()), (pads[0], pads[2]), channels * padded[0], rows)


def _fold(view: View, fold: _Fold) -> None:
    """Put the Gather in front of the layer, and its weights in the new order."""
    from onnx import helper

    node, made = fold.layer.node, len(fold.rows)
    bytes_of, nodes = fold.pair.input[0], []

    def add(operator: str, *inputs: Array | str, **attributes: int) -> str:
        names = [view.add_constant(part, bytes_of) if not isinstance(part, str) else part for part in inputs]
        result = view.new_name(bytes_of)
        nodes.append(helper.make_node(operator, names, [result], result, **attributes))
        return result

    rows = bytes_of
    if any(fold.pads):
        above, below = fold.pads
        rows = add("Pad", rows, np.array([0, 0, above, 0, 0, 0, below, 0], np.int64), fold.zero)
    if fold.layer.shape[1] > 1:
        rows = add("Reshape", rows, np.array([0, 1, fold.all_rows, 0], np.int64))
    rows = add("Gather", rows, fold.rows.ravel().astype(np.int64), axis=2)
    rows = add("Reshape", rows, np.array([0, *fold.rows.shape, 0], np.int64))
    result = add("DequantizeLinear", rows, *fold.pair.input[1:])
    for added in reversed(nodes):
        view.insert_after(fold.pair, added)
    node.input[0] = result

    values, zero = integers(view, fold.layer)
    outputs, channels, taps, wide = values.shape
    folded = np.broadcast_to(zero.reshape(-1, 1, 1, 1), (outputs, made, 1, wide)).astype(values.dtype)
    folded[:, : channels * taps, 0] = values.reshape(outputs, channels * taps, wide)
    replace(view, fold.layer.weight, 0, folded)
    pads = attribute(node, "pads", [0] * 4)
    set_attribute(node, "kernel_shape", [1, wide])
    set_attribute(node, "pads", [0, pads[1], 0, pads[3]])
    for name in ("strides", "dilations"):
        set_attribute(node, name, [1, attribute(node, name, [1, 1])[1]])
