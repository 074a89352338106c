"""Activations of a model that came quantized, around zero: for engines that take no other zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgepack.graph.clean.view import View
from edgepack.quantize.imported.clips import keep_clip, zero_point

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_LEVELS = 127


@dataclass(frozen=True)
class Activation:
    """A tensor between a QuantizeLinear and the DequantizeLinear that read it, all with one scale and zero point."""

    quantize: onnx.NodeProto
    readers: tuple[onnx.NodeProto, ...]
    scale: float
    zero: int
    kind: str

    @property
    def magnitude(self) -> float:
        """The largest absolute value that can be stored."""
        limits = np.iinfo(self.kind)
        return max(limits.max - self.zero, self.zero - limits.min) * self.scale


def activations(view: View) -> Iterator[Activation]:
    """Yield the activations of a graph that may be given another scale."""
    for node in view.nodes("QuantizeLinear"):
        readers = view.users.get(node.output[0], [])
        own = _parameters(view, node)
        if own is None or not readers or not view.is_free(node.output[0]):
            continue
        if all(r.op_type == "DequantizeLinear" and _parameters(view, r, own[2]) == own for r in readers):
            yield Activation(node, tuple(readers), *own)


def _parameters(view: View, node: onnx.NodeProto, kind: str | None = None) -> tuple[float, int, str] | None:
    """Return scale, zero point and type where there is one for the whole tensor; ``kind`` is a type known otherwise."""
    scale, zero = view.floats(node.input[1]), zero_point(view, node)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    stated = len(node.input) > 2 and bool(node.input[2])
    name = zero.dtype.name if stated or kind is None else kind
    return (float(scale.reshape(())), int(zero.reshape(())), name) if name in ("int8", "uint8") else None


def centre(proto: onnx.ModelProto) -> tuple[int, float]:
    """Store, in place, every activation as int8 around zero; return how many changed, and how much coarser at most.

    What was stored as int8 around zero stays as it is. Another one gets the scale at which all that it could hold
    still fits: up to twice as coarse as before, where it held values of one sign. There a Relu keeps what the type did.
    """
    view = View(proto)
    changed, coarser = 0, 1.0
    for one in list(activations(view)):
        if one.kind == "int8" and one.zero == 0:
            continue
        if (clipped := keep_clip(view, one.quantize)) is not None:
            one.quantize.input[0] = clipped
        scale = np.float32(one.magnitude / _LEVELS)
        coarser = max(coarser, float(scale) / one.scale)
        names = [view.add_constant(np.asarray(v), one.quantize.output[0]) for v in (scale, np.int8(0))]
        for node in (one.quantize, *one.readers):
            del node.input[1:]
            node.input.extend(names)
            for index in reversed(range(len(node.attribute))):
                if node.attribute[index].name in ("output_dtype", "axis"):
                    del node.attribute[index]
        view.forget(one.quantize.output[0])
        changed += 1
    return changed, coarser
