"""Why int8 does not make a layer faster, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.specs.types import Asked, Ran

# Below this, the time of a kernel goes into memory, not into arithmetic: a core with AVX2 multiplies and adds 32
# int8 pairs a cycle and loads 32 bytes from its second-level cache in the best case, about 4 from memory.
MEMORY_BOUND_MACS_A_BYTE = 8.0
# Conversions that cost less than this, of the layer's own time and of the model's, are not worth a word.
_NOTABLE_OF_LAYER, _NOTABLE_OF_MODEL = 0.25, 0.01
_NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


@dataclass(frozen=True)
class LayerFacts:
    """What is known of a layer of a model on this host.

    ``left``: why the build left it in float. ``time_share`` and ``conversion_share`` are fractions of the model's time:
    of the layer, and of the conversions right before and after it. ``macs`` and ``moved_bytes`` are of one inference.
    ``saturates``: this CPU adds int8 products in 16 bits. ``among_int8``: other layers are int8.
    None where a fact is not known.
    """

    engine: str
    asked: Asked
    executed: Ran
    kernel: str = ""
    left: str | None = None
    time_share: float | None = None
    conversion_share: float | None = None
    macs: int | None = None
    moved_bytes: int | None = None
    saturates: bool = False
    among_int8: bool = True


def reason(facts: LayerFacts) -> str | None:
    """Return why int8 (or float16) gains nothing or little at this layer; None when nothing speaks against it."""
    if facts.executed in ("fused", "unknown"):
        return None
    islands = _conversions(facts)
    if facts.executed != "int8":
        if facts.left is not None:
            return facts.left if facts.left.startswith("left in float") else f"left in float: {facts.left}"
        if facts.asked == "int8":
            name = _NAMES[facts.executed]
            return f"no int8 kernel: {facts.engine} runs {facts.kernel} in {name}" + (f"; {islands}" if islands else "")
        if facts.asked != facts.executed:
            return f"no {_NAMES[facts.asked]} kernel here: {facts.engine} runs it in {_NAMES[facts.executed]}"
        return f"float between int8: {islands}" if islands and facts.among_int8 else None
    if _is_reference(facts.kernel) and (facts.time_share or 0) >= _NOTABLE_OF_MODEL:
        return f"reference kernel, not optimized: {facts.kernel}"
    if islands:
        return islands
    if facts.macs and facts.moved_bytes and facts.macs / facts.moved_bytes < MEMORY_BOUND_MACS_A_BYTE:
        ratio = facts.macs / facts.moved_bytes
        return f"memory-bound: {ratio:.1f} multiply-adds a byte moved"
    if facts.saturates and facts.macs:
        return "no VNNI here: int8 adds in 16 bits, by three instructions for VNNI's one"
    return None


def _is_reference(kernel: str) -> bool:
    """Say whether an OpenVINO kernel, such as "Pad ref_I8", is the plain implementation (impl_desc_type ``ref``)."""
    return kernel.rpartition(" ")[2].startswith("ref_")


def _conversions(facts: LayerFacts) -> str:
    share, own = facts.conversion_share, facts.time_share
    if share is None or own is None or share < _NOTABLE_OF_MODEL or share < _NOTABLE_OF_LAYER * own:
        return ""
    return f"conversions beside it take {100 * share:.1f} % of the time"
