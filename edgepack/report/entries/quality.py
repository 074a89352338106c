"""Quality by engine and instruction set: an int8 accuracy belongs to the kernels that it was measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report import units
from edgepack.report.entries import Entry
from edgepack.report.entries.choice import Kind, quality_kind
from edgepack.specs.run import Accuracy

_ORDER = ("fp32", "fp16", "bf16", "int8")
_MATRIX = (("amx_int8", "AMX"),)
# What decides how an engine multiplies 8-bit numbers: of each tuple the first that a CPU has.
_X86 = (
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
    ("avx", "AVX"),
    ("ssse3", "SSSE3"),
)
_ARM = (("i8mm", "I8MM"), ("asimddp", "dot product"), ("asimd", "NEON"), ("neon", "NEON"))


@dataclass(frozen=True)
class Line:
    """One engine and instruction set; ``cells`` are (text, detail) for each precision of the table."""

    engine: str
    isa: str
    note: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ByEngine:
    """The table: ``title`` says what its figures are, ``precisions`` are its columns."""

    title: str
    precisions: tuple[str, ...]
    lines: tuple[Line, ...]


def by_engine(entries: Sequence[Entry]) -> ByEngine | None:
    """Return the quality of each precision on each engine and instruction set; None where none is known.

    A bundle counts once, however often it was measured. Of several bundles the least and the greatest are shown.
    """
    kind = quality_kind(entries)
    found: dict[tuple[str, str, str], dict[str, dict[str, Entry]]] = {}
    for entry in entries:
        where = _where(entry)
        if where is not None and _value(entry, kind) is not None:
            bundles = found.setdefault(where, {}).setdefault(entry.precision, {})
            bundles.setdefault(entry.sha256 or str(id(entry)), entry)
    if not found:
        return None
    precisions = tuple(p for p in _ORDER if any(p in line for line in found.values()))
    lines = tuple(
        Line(*where, tuple(_cell(list(line.get(p, {}).values()), kind) for p in precisions))
        for where, line in sorted(found.items())
    )
    return ByEngine(_title(entries, kind), precisions, lines)


def short_isa(isa: Sequence[str]) -> str:
    """Return what of an instruction set decides how 8-bit numbers are multiplied."""
    flags = set(isa)
    names = [title for flag, title in _MATRIX if flag in flags]
    names += [title for flag, title in _X86 if flag in flags][:1] or [t for f, t in _ARM if f in flags][:1]
    return ", ".join(names) or (", ".join(isa) or "instruction set unknown")


def saturates(isa: Sequence[str]) -> bool:
    """Say whether sums of two 8-bit products clip at 16 bits: VPMADDUBSW of x86 without VNNI (Intel SDM, volume 2)."""
    flags = set(isa)
    return bool(flags & {"ssse3", "avx", "avx2"}) and not flags & {"avx512_vnni", "avx_vnni"}


def _where(entry: Entry) -> tuple[str, str, str] | None:
    if entry.result is not None and entry.result.accuracy is not None:
        engine, isa = entry.result.accuracy.engine, entry.result.accuracy.isa
    elif entry.row is not None and entry.row.evaluated_with:
        engine, isa = entry.row.evaluated_with, entry.row.evaluated_isa
    else:
        return None
    return engine, short_isa(isa), "sums of 8-bit products clip at 16 bits" if saturates(isa) else ""


def _value(entry: Entry, kind: Kind) -> float | None:
    if kind == "accuracy":
        return entry.accuracy.value if entry.accuracy else None
    return {"agreement": entry.agreement, "sqnr": entry.sqnr_db}.get(kind)


def _cell(entries: Sequence[Entry], kind: Kind) -> tuple[str, str]:
    if not entries:
        return units.NONE, ""
    values = [value for entry in entries if (value := _value(entry, kind)) is not None]
    accuracy = entries[0].accuracy
    fraction = kind == "agreement" or (accuracy is not None and units.is_fraction(accuracy.metric))
    low, high = (_text(value, fraction=fraction) for value in (min(values), max(values)))
    text = low if low == high else units.between(low, high)
    if len(entries) > 1:
        return text, f"{len(entries)} bundles"
    return text, _drop(accuracy) if accuracy and entries[0].precision != "fp32" else ""


def _text(value: float, *, fraction: bool) -> str:
    return units.percent(value, 2) if fraction else units.digits(value, 4)


def _drop(found: Accuracy) -> str:
    drop, low, high = (units.drop(value, found.metric) for value in (found.drop, *found.ci95))
    return f"drop {drop} ({low} to {high})"


def _title(entries: Sequence[Entry], kind: Kind) -> str:
    if kind == "accuracy":
        found = next(e.accuracy for e in entries if e.accuracy)
        what = units.accuracy_heading(found) + (", %," if units.is_fraction(found.metric) else "")
    else:
        what = "Agreement with fp32, %," if kind == "agreement" else "SQNR to fp32, dB,"
    return f"{what} by engine and instruction set"
