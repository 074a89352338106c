"""The report for programs: the answer of each model, its devices and its rows, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.report.entries import Group, labels, make_groups
from edgepack.report.entries.choice import choose, default_limits, presets
from edgepack.report.formats.records import record_of
from edgepack.report.text.devices import Device, devices, standing
from edgepack.report.text.sentences import recommendation
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result


@dataclass(frozen=True)
class ModelSummary:
    """One model: what to take under the limits that the page opens with, in words and by name.

    ``take`` and ``excluded`` are labels of rows, None where there is none; ``rows`` are those of CSV, by column.
    """

    model: str
    source_sha256: str
    answer: str
    standing: str
    preset: str | None
    take: str | None
    cannot_be_told_from: tuple[str, ...]
    excluded: str | None
    devices: tuple[Device, ...]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Summary:
    """All models, and the ``--fail-if`` conditions that hold."""

    models: tuple[ModelSummary, ...]
    failed: tuple[str, ...] = ()


def summarise(results: tuple[Result, ...], rows: tuple[BuildRow, ...], failed: tuple[str, ...] = ()) -> Summary:
    """Return the summary of the report of these results and rows."""
    return Summary(tuple(_model(group) for group in make_groups(results, rows)), failed)


def _model(group: Group) -> ModelSummary:
    entries, names = group.entries, labels(group.entries)
    limits = default_limits(entries)
    choice, offered = choose(entries, limits), presets(entries)
    return ModelSummary(
        model=group.title,
        source_sha256=group.source_sha256,
        answer=recommendation(entries, limits),
        standing=standing(entries),
        preset=offered[0].name if offered else None,
        take=None if choice.best is None else names[choice.best],
        cannot_be_told_from=tuple(names[i] for i in choice.ties),
        excluded=None if choice.excluded is None else names[choice.excluded],
        devices=devices(entries),
        rows=tuple({"label": name, **record_of(group, entry)} for name, entry in zip(names, entries, strict=True)),
    )
