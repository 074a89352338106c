"""The model in one line: parameters, multiply-adds, inputs and outputs, opset."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.base.shapes import show_shape
from edgepack.report import units
from edgepack.report.entries import Entry
from edgepack.specs.model import TensorSpec

_MOST_TENSORS = 3
_COUNTS = (
    units.Scale("", 1),
    units.Scale("k", 1e3),
    units.Scale("M", 1e6),
    units.Scale("G", 1e9),
    units.Scale("T", 1e12),
)


def model_text(entries: Sequence[Entry]) -> str:
    """Return what the entries' model is; empty where no row of a build says it."""
    facts = next((e.row.facts for e in entries if e.row is not None and e.row.facts is not None), None)
    if facts is None:
        return ""
    parts = [f"{_count(facts.parameters)} parameters"]
    if facts.macs is not None:
        parts.append(f"{_count(facts.macs)} multiply-adds a sample")
    parts += [f"{_tensors(facts.inputs)} \u2192 {_tensors(facts.outputs)}", f"opset {facts.opset}"]
    return " \u00b7 ".join(parts)


def _count(value: int) -> str:
    return units.quantity(value, _COUNTS).strip() if value >= 1000 else str(value)


def _tensors(specs: Sequence[TensorSpec]) -> str:
    shown = [f"{spec.name} {spec.dtype} {show_shape(spec.shape)}" for spec in specs[:_MOST_TENSORS]]
    return ", ".join(shown) + (f" and {len(specs) - _MOST_TENSORS} more" if len(specs) > _MOST_TENSORS else "")
