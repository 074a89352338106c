"""One record an entry."""

from __future__ import annotations

import dataclasses
import typing

import made_up

from edgepack.report.formats.records import make_records


def test_every_value_has_the_type_of_its_column() -> None:
    for build in (made_up.labelled_build(), made_up.unlabelled_build(), made_up.full_build()):
        records = make_records(*build)
        assert records.rows
        for row in records.rows:
            assert list(row) == list(records.columns)
            for name, value in row.items():
                kind = records.columns[name]
                allowed = (int, float) if kind is float else (kind,)
                fits = isinstance(value, allowed) and isinstance(value, bool) == (kind is bool)
                assert value is None or fits, (name, value)


def test_figures_are_those_of_the_results_in_base_units() -> None:
    results, rows = made_up.labelled_build()
    first = make_records(results, rows).rows[0]
    assert first["p50_ns"] == results[0].percentiles[0].value_ns
    assert (first["p50_ns_low"], first["p50_ns_high"]) == results[0].percentiles[0].ci95_ns
    assert first["size_bytes"] == results[0].size_bytes
    assert first["model_sha256"] == results[0].source_sha256
    assert first["engine_versions"] == "openvino 1.2.3"


def test_what_was_not_measured_is_none() -> None:
    (row,) = make_records((), (made_up.row("raspberry-pi-5", "int8"),)).rows
    for name in ("host", "scenario", "p50_ns", "speedup_over_fp32", "speedup_paired", "metric", "energy_uj", "valid"):
        assert row[name] is None
    assert row["sqnr_db"] == 27.8


def test_a_disturbed_measurement_has_its_reasons() -> None:
    result = dataclasses.replace(made_up.result(), valid=False, invalid_reasons=("hot", "busy"))
    (row,) = make_records((result,), ()).rows
    assert (row["valid"], row["invalid_reasons"]) == (False, "hot; busy")


def test_nothing_at_all_has_no_columns() -> None:
    records = make_records((), ())
    assert (records.columns, records.rows) == ({}, ())
    assert typing.get_type_hints(type(records))["columns"] == dict[str, type]
