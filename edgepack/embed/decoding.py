"""Which detectors' decoders exist as ONNX operators. To add one, add a function and a line to ``DECODING``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from edgepack.embed.decoders import Decoded, Raw
from edgepack.embed.decoders.maps import distributions, fastestdet, yolo_anchors, yunet
from edgepack.embed.decoders.pairs import detr, ssd
from edgepack.embed.decoders.peaks import center_points, heat_maps
from edgepack.embed.decoders.rows import blaze, yolo, yolo_objectness, yolox
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from edgepack.embed.operators import Operators

Decode: TypeAlias = "Callable[[Operators, Raw], Decoded]"


def decode_boxes(decoder: str, operators: Operators, raw: Raw) -> Decoded:
    """Append a decoder to a graph and return what it makes. Raises ``ConfigError``."""
    refuse_decoder(decoder)
    return DECODING[decoder](operators, raw)


def refuse_decoder(decoder: str) -> None:
    """Raise ``ConfigError`` for a decoder that does not exist as operators."""
    if decoder in NOT_DECODED:
        raise ConfigError(f"--embed postprocessing: {decoder}: {NOT_DECODED[decoder]}", hint="leave postprocessing out")
    if decoder not in DECODING:
        raise ConfigError(
            f"--embed postprocessing: the decoder {decoder!r} is not written as operators",
            hint=f"leave postprocessing out; these are: {', '.join(DECODING)}",
        )


DECODING: Mapping[str, Decode] = {
    "yolo": yolo,
    "yolo-objectness": yolo_objectness,
    "yolo-anchors": yolo_anchors,
    "yolox": yolox,
    "fastestdet": fastestdet,
    "yunet": yunet,
    "distributions": distributions,
    "ssd": ssd,
    "detr": detr,
    "center-points": center_points,
    "heat-maps": heat_maps,
    "blaze": blaze,
}
_DONE = "the model gives final boxes already"
# Decoders that need no operators or have none, and why.
NOT_DECODED: Mapping[str, str] = {
    "yolo-final": _DONE,
    "boxes-scores-classes": _DONE,
    "text-maps": "pixels that touch are joined to areas of any form, for which ONNX has no operator",
}
