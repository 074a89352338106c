"""Folds a recipe's normalisation into the first convolution, so that the model takes plain pixels, in 256ths.

The first convolution computes sums of ``w * (pixel * scale - mean) / std``. Scale and std go into its weights, exactly
as arithmetic goes. The mean is a constant for each output channel where no zero is padded, and goes into the bias.
Where zeros are padded, which stand for the mean, it is not: there every tap inside the picture contributes
``-w * mean / std``, and none outside. A fourth channel that is constant inside the picture and zero in the padding, as
all are, gives exactly these sums, and its weights are ``-w * mean / std`` over its value.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from edgepack.base.stage import stage
from edgepack.data.preprocess import normalize
from edgepack.embed.operators import constant_array
from edgepack.graph import passes
from edgepack.graph.clean.view import View, attribute
from edgepack.graph.compare import run_model
from edgepack.graph.load import read_proto, save_proto
from edgepack.quantize.byte_inputs import BYTE_STEP, BYTES_KEY
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import OnnxModel
from edgepack.verify.distance import distances
from edgepack.verify.tolerance import FP32_SQNR_DB

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.types import Array

# The value of the constant channel: the weights of its taps are then about as large as the others', so that one int8
# step for all of them loses little.
_LEVEL = 128 * BYTE_STEP
_TRIED = 2  # random pictures that both models are run on
_SEED = 0


@dataclass(frozen=True)
class Folded:
    """A model that takes pixels, and how pictures are made for it; ``done`` says what was folded, "" for nothing.

    Where nothing was, ``reason`` says why, and model and preprocessing are those that were given.
    """

    model: OnnxModel
    preprocessing: Preprocessing
    done: str = ""
    reason: str = ""


@stage("fold", host="numbers")
def fold_normalization(model: OnnxModel, made: Preprocessing, out: Path) -> Folded:
    """Fold scale, mean, std and the order of colours of ``made`` into the first convolution of an fp32 model.

    The result is compared with the model itself on random pictures, and given up below 60 dB. Nothing is folded into a
    model that does not begin with a convolution of its own weights.
    """
    proto = read_proto(model)
    if passes.is_quantized(proto):
        return Folded(model, made, reason="the model came quantized")
    passes.constants_to_initializers(proto)
    found = _first_convolution(View(proto), made)
    if isinstance(found, str):
        return Folded(model, made, reason=found)
    done = _fold(proto, found, made)
    folded = save_proto(proto, out)
    plain = pixels_only(made)
    if problem := _difference(model, made, folded, plain):
        return Folded(model, made, reason=problem)
    return Folded(folded, plain, done)


def pixels_only(made: Preprocessing) -> Preprocessing:
    """Return the preprocessing that leaves pixels as they are, in 256ths as float32, in the order R, G, B."""
    ones = (1.0,) * len(made.std)
    color: Literal["RGB", "L"] = "L" if made.color == "L" else "RGB"
    return dataclasses.replace(made, color=color, scale=BYTE_STEP, mean=(0.0,) * len(made.mean), std=ones)


@dataclass(frozen=True)
class _First:
    """The first convolution, the tensor that it reads, and its constants."""

    node: onnx.NodeProto
    weight: Array
    bias: Array


def _first_convolution(view: View, made: Preprocessing) -> _First | str:
    """Return the convolution that alone reads the input, maybe through a Transpose; else why there is none."""
    if len(view.graph.input) != 1:
        return "the model has several inputs"
    node = view.only_user(view.graph.input[0].name)
    if node is not None and node.op_type == "Transpose":
        node = view.only_user(node.output[0])
    if node is None or node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return f"the model begins with {node.op_type if node is not None else 'several operators'}, not a convolution"
    weight = constant_array(view, node.input[1])
    bias = constant_array(view, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    channels = 1 if made.color == "L" else 3
    if weight is None or weight.dtype != np.float32 or (bias is None and len(node.input) > 2 and node.input[2]):
        return "the weights of the first convolution are computed"
    if weight.ndim != 4 or weight.shape[1] != channels or attribute(node, "group", 1) != 1:
        return f"the first convolution does not read {channels} channels at once"
    return _First(node, weight, np.zeros(len(weight), np.float32) if bias is None else bias)


def _fold(proto: onnx.ModelProto, first: _First, made: Preprocessing) -> str:
    """Change the convolution in place and return what was done, in words."""
    view = View(proto)
    order = slice(None, None, -1) if made.color == "BGR" else slice(None)
    channels = first.weight.shape[1]
    mean, std = (np.asarray(v[:channels], np.float64).reshape(-1, 1, 1) for v in (made.mean, made.std))
    weight = first.weight.astype(np.float64)
    scaled = (weight * (made.scale / BYTE_STEP) / std)[:, order]
    of_mean = -(weight * mean / std).sum(axis=1, keepdims=True)
    bias, done = first.bias.astype(np.float64), "scale and std in the first convolution's weights"
    read = [view.graph.input[0].name, first.node.input[0]]
    if not made.mean[:channels] or not any(made.mean[:channels]):
        done = "the scale in the first convolution's weights" if set(made.std) == {1.0} else done
        done = "the type alone" if made.scale == 1.0 and set(made.std) == {1.0} else done
    elif _pads(first.node):
        scaled = np.concatenate([scaled, of_mean / _LEVEL], axis=1)
        read.append(_constant_channel(proto, view, first.node))
        done += ", the mean as those of a constant fourth channel, since zeros are padded"
    else:
        bias = bias + of_mean.sum(axis=(1, 2, 3))
        done += ", the mean in its bias"
    names = [view.add_constant(value.astype(np.float32), "folded") for value in (scaled, bias)]
    del first.node.input[1:]
    first.node.input.extend(names)
    done += ", the order of colours too" if made.color == "BGR" else ""
    passes.drop_unused_initializers(proto)
    del proto.graph.value_info[:]
    passes.infer_shapes(proto)
    passes.set_metadata(proto, BYTES_KEY, "\n".join(dict.fromkeys(read)))
    return done


def _pads(node: onnx.NodeProto) -> bool:
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return True
    return any(attribute(node, "pads", []) or [])


def _constant_channel(proto: onnx.ModelProto, view: View, node: onnx.NodeProto) -> str:
    """Put a Pad before the convolution that adds a channel of one value; return its output."""
    from onnx import helper

    name = view.new_name("with_constant_channel")
    pads = view.add_constant(np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64), "constant_channel")
    value = view.add_constant(np.array(_LEVEL, np.float32), "constant_channel")
    added = helper.make_node("Pad", [node.input[0], pads, value], [name], name=name, mode="constant")
    position = next(i for i, other in enumerate(proto.graph.node) if other is node)
    proto.graph.node.insert(position, added)
    node.input[0] = name
    return name


def _difference(model: OnnxModel, made: Preprocessing, folded: OnnxModel, plain: Preprocessing) -> str:
    """Return in words how far the folded model is off on random pictures; "" where it is not."""
    random = np.random.default_rng(_SEED)
    spec = model.inputs[0]
    sides = spec.shape[2:] if made.layout == "NCHW" else spec.shape[1:3]
    height, width = (side if isinstance(side, int) else 64 for side in sides)
    channels = 1 if made.color == "L" else 3
    pairs = []
    for _ in range(_TRIED):
        pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
        turned = pixels[:, :, ::-1] if made.color == "BGR" else pixels
        feeds = normalize(turned, made)[None], normalize(pixels, plain)[None]
        both = zip((model, folded), feeds, strict=True)
        pairs.append(tuple(run_model(m, {spec.name: f}, optimize=False) for m, f in both))
    for found in distances([first for first, _ in pairs], [second for _, second in pairs], None):
        if not found.passed or (found.sqnr_db is not None and found.sqnr_db < FP32_SQNR_DB):
            off = found.note or f"{cast('float', found.sqnr_db):.1f} dB"
            return f"the folded model differs on random pictures ({found.name}: {off})"
    return ""
