"""Models that came quantized: built as they are for each engine, or made float again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.stage import stage
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

if TYPE_CHECKING:
    import onnx

NOTE = "edgepack.as_is"
_LOWEST_OPSET = 13  # QuantizeLinear and DequantizeLinear along an axis


@dataclass(frozen=True)
class Retargeted:
    """A quantized model in the form that a target's engine computes in int8.

    ``exact`` says what was written otherwise with the same values, but for ties of rounding; ``lossy`` what was rounded
    again.
    """

    model: OnnxModel
    exact: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()


def in_words(exact: tuple[str, ...], lossy: tuple[str, ...]) -> str:
    """Return what was changed, in a sentence."""
    first = f"written otherwise, with the same values: {', '.join(exact)}" if exact else ""
    second = f"rounded again for this target: {', '.join(lossy)}" if lossy else ""
    return "; ".join(part for part in (first, second) if part) or "nothing was changed"


@stage("as is")
def retarget(model: OnnxModel, rules: QuantizationRules, out: Path) -> Retargeted:
    """Write a model that came quantized into ``out`` as the engine of ``rules`` wants it.

    Its integers stay, but for those that the target would not compute, or would compute wrongly: ``Retargeted.lossy``
    says which. Raises ``ModelError`` when it is not valid afterwards.
    """
    from edgepack.graph import passes
    from edgepack.graph.load import read_proto, save_proto
    from edgepack.quantize.rules import table_of

    proto = read_proto(model)
    table = table_of(rules.engine)
    exact = list(as_pairs(proto))
    lossy = [] if table.runs_clips else list(_narrow(proto))
    exact += [*_clips(proto), *_signs(proto, rules, around_zero=not table.runs_signed)]
    lossy += _rounded(proto, rules)
    lossy += _whole_biases(proto, rules)
    exact += _float_biases(proto, rules)
    passes.drop_unused_initializers(proto)
    passes.set_versions(proto)
    passes.name_nodes(proto)
    passes.set_metadata(proto, NOTE, in_words(tuple(exact), tuple(lossy)))
    return Retargeted(save_proto(raised(proto), out), tuple(exact), tuple(lossy))


def as_pairs(proto: onnx.ModelProto) -> Iterator[str]:
    """Write a quantized graph, in place, as float operators between Q/DQ pairs; yield in words what was done."""
    from edgepack.graph import passes
    from edgepack.quantize.imported.pairs import to_pairs, to_standard
    from edgepack.quantize.imported.tidy import store_constants, wrap_moves

    passes.constants_to_initializers(proto)
    for step, words in (
        (to_standard, "operator of the standard"),
        (to_pairs, "operator on integers as Q/DQ pairs"),
        (store_constants, "weight stored as integers"),
        (wrap_moves, "operator that moves integers between pairs"),
    ):
        if count := step(proto):
            yield counted(count, words)
    passes.drop_unused_initializers(proto)


def counted(count: int, words: str) -> str:
    """Return ``2 operators that move`` for 2 and "operator that moves": the first word counts, and its verb."""
    if count == 1:
        return f"1 {words}"
    first, _, rest = words.partition(" ")
    return f"{count} {first}s {rest.replace('that moves', 'that move')}"


def raised(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model at the lowest opset that has Q/DQ along an axis, where it is older."""
    from edgepack.graph import passes
    from edgepack.graph.operators import opsets

    return proto if opsets(proto).get("", 1) >= _LOWEST_OPSET else passes.raise_opset(proto, _LOWEST_OPSET)


def _narrow(proto: onnx.ModelProto) -> Iterator[str]:
    from edgepack.quantize.imported.clips import drop_narrow_clips

    if count := drop_narrow_clips(proto):
        yield counted(count, "activation with one level more, as its type has it")


def _clips(proto: onnx.ModelProto) -> Iterator[str]:
    from edgepack.quantize.imported.clips import move_clips

    if count := move_clips(proto):
        yield counted(count, "clip taken out of a pair")


def _signs(proto: onnx.ModelProto, rules: QuantizationRules, *, around_zero: bool) -> Iterator[str]:
    """Move activations to the type that the target's engine fuses; no value changes.

    Those of int8 around zero only if ``around_zero``.
    """
    from edgepack.graph.signedness import move_to_signed, move_to_unsigned

    if rules.activation_type == "uint8":
        if count := move_to_unsigned(proto, around_zero=around_zero):
            yield counted(count, "activation from int8 to uint8")
    elif count := move_to_signed(proto):
        yield counted(count, "activation from uint8 to int8")


def _rounded(proto: onnx.ModelProto, rules: QuantizationRules) -> Iterator[str]:
    """Round what the target would refuse or clip."""
    import math

    from edgepack.quantize.imported.activations import centre
    from edgepack.quantize.imported.layers import keep_pairs_small, weights_around_zero
    from edgepack.quantize.rules import table_of

    demands = table_of(rules.engine).demands
    if rules.activation_symmetric:
        changed, coarser = centre(proto)
        if changed:
            yield counted(changed, f"activation around zero, in steps up to {coarser:.2f} times as large")
    if "weight_symmetric" in demands:
        exact, rounded = weights_around_zero(proto)
        if exact:
            yield counted(exact, "layer with weights from uint8 to int8 (the same values)")
        if rounded:
            yield counted(rounded, "layer with weights around zero")
    if rules.saturates:
        layers, worst = keep_pairs_small(proto)
        if layers:
            least = "" if math.isinf(worst) else f" (the weights' SQNR is {worst:.1f} dB or more)"
            yield counted(layers, f"layer with weights of which no two products clip at 16 bits{least}")


def _whole_biases(proto: onnx.ModelProto, rules: QuantizationRules) -> Iterator[str]:
    from edgepack.quantize.imported.layers import integer_biases

    if rules.quantize_bias and (count := integer_biases(proto)):
        yield counted(count, "layer with a bias in the unit in which the engine adds it")


def _float_biases(proto: onnx.ModelProto, rules: QuantizationRules) -> Iterator[str]:
    from edgepack.quantize.imported.layers import float_biases

    if not rules.quantize_bias and (count := float_biases(proto)):
        yield counted(count, "layer with a bias in float")
