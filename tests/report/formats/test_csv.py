"""CSV of a report: plain numbers, and no formulas."""

import csv
import io

import made_up
import pytest

from edgepack.report.formats.csv import to_csv


def parsed(results, rows):
    return list(csv.DictReader(io.StringIO(to_csv(results, rows), newline="")))


def test_csv_is_as_it_was(golden):
    golden("labelled_build.csv", to_csv(*made_up.labelled_build()).replace("\r\n", "\n"))


def test_csv_has_plain_numbers_in_base_units():
    results, rows = made_up.labelled_build()
    first, second = parsed(results, rows)[:2]
    assert int(first["p50_ns"]) == results[0].percentiles[0].value_ns
    assert float(second["drop"]) == pytest.approx(0.0064)
    assert second["speedup_paired"] == "true"
    assert first["energy_uj"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_name_becomes_a_formula(start):
    name = f'{start}HYPERLINK("http://x","y")'
    (record,) = parsed((made_up.result(bundle_name=name, target=name),), ())
    assert record["target"] == "'" + name
    assert record["model"] == "'" + name


def test_names_with_commas_quotes_and_line_ends_stay_one_field():
    name = 'a,"b"\r\nc'
    (record,) = parsed((made_up.result(target=name),), ())
    assert record["target"] == name


def test_csv_of_nothing_is_empty():
    assert to_csv((), ()).strip() == ""


def test_results_alone_and_rows_alone_have_the_same_columns():
    results, rows = made_up.labelled_build()
    assert parsed(results, ())[0].keys() == parsed((), rows)[0].keys()
    assert len(parsed(results, rows)) == 6
