import dataclasses
import json
import os

import made_up
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.base import documents
from edgepack.errors import ConfigError, EdgepackError, StorageError
from edgepack.report.entries.read import read_results
from edgepack.specs.build import BuildResult


def build(rows):
    return BuildResult("resnet20", rows, (), "out", None, {}, 0, 0)


@pytest.fixture
def folder(tmp_path):
    results, rows = made_up.labelled_build()
    (tmp_path / "results").mkdir()
    for i, result in enumerate(results):
        (tmp_path / "results" / f"{i}.json").write_text(documents.to_json(result))
    (tmp_path / "build.json").write_text(documents.to_json(build(rows)))
    return tmp_path


def test_a_folder_is_searched_for_results_and_builds(folder):
    results, rows = made_up.labelled_build()
    assert read_results([folder]) == (results, rows)


def test_files_and_folders_may_be_named_together_and_count_once(folder):
    results, rows = read_results([folder, folder / "build.json", folder / "results", folder / "results" / "0.json"])
    assert len(results) == 4
    assert len(rows) == 6


def test_a_copy_of_a_result_counts_once(folder):
    (folder / "copy.json").write_text((folder / "results" / "0.json").read_text())
    assert len(read_results([folder])[0]) == 4


def test_a_result_with_its_keys_in_another_order_counts_once(folder):
    path = folder / "results" / "0.json"
    (folder / "again.json").write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert len(read_results([folder])[0]) == 4


def test_results_of_one_bundle_and_time_that_differ_elsewhere_are_all_kept(folder):
    path = folder / "results" / "0.json"
    for queries in (1, 2, 3):
        for name in ("a", "b"):
            (folder / f"{name}{queries}.json").write_text(
                json.dumps({**json.loads(path.read_text()), "queries": queries})
            )
    assert len(read_results([folder])[0]) == 4 + 3


def test_a_file_by_two_names_is_read_once(folder):
    path = folder / "results" / "0.json"
    (folder / "link.json").symlink_to(path)
    (folder / "gone.json").symlink_to(folder / "nowhere")
    assert len(read_results([folder])[0]) == 4


def test_rows_of_a_build_know_its_name(folder):
    rows = tuple(dataclasses.replace(row, model="") for row in made_up.labelled_build()[1])
    (folder / "build.json").write_text(documents.to_json(build(rows)))
    assert {row.model for row in read_results([folder])[1]} == {"resnet20"}


def test_other_documents_in_a_folder_are_passed_over(folder):
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "list.json").write_text("[1, 2]")
    (folder / "torn.json").write_text("{")
    (folder / "not.txt").write_text("x")
    assert len(read_results([folder])[0]) == 4


def test_a_damaged_result_in_a_folder_is_not_passed_over(folder):
    path = folder / "results" / "0.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ConfigError, match=r"0\.json: not valid JSON"):
        read_results([folder])


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"a": 1}', "nonsense", "\x00\x01", '{"rows": 1, "rows": 2}'])
def test_a_named_file_that_is_neither_is_an_error_naming_it(tmp_path, text):
    path = tmp_path / "named.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"named\.json"):
        read_results([path])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queries": "many"}, "queries"),
        ({"precision": "int4"}, "int4"),
        ({"extra": 1}, "extra"),
        ({"host": None}, "host"),
        ({"format": 2}, "format 2"),
        ({"target": "a\u001b[31m"}, "control characters"),
        ({"target": "\ud800"}, "control characters"),
        ({"samples_per_second": 1e999}, "not valid JSON"),
    ],
)
def test_a_wrong_result_is_an_error_naming_file_and_place(tmp_path, change, words):
    data = documents.encode(made_up.result()) | change
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=words) as caught:
        read_results([path])
    assert "wrong.json" in str(caught.value)


def test_nesting_without_end_is_an_error(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"deep\.json"):
        read_results([path])


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no results found"):
        read_results([tmp_path])
    with pytest.raises(ConfigError, match="there is no file or folder"):
        read_results([tmp_path / "absent"])


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    from edgepack.report.entries import read

    monkeypatch.setattr(read, "_LIMIT_BYTES", 10)
    path = tmp_path / "huge.json"
    path.write_text(documents.to_json(made_up.result()))
    with pytest.raises(ConfigError, match="larger than"):
        read_results([path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(folder):
    (folder / "build.json").chmod(0)
    with pytest.raises(StorageError, match=r"build\.json"):
        read_results([folder])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_gives_a_result_or_one_of_our_errors(tmp_path, place, byte):
    text = bytearray(documents.to_json(made_up.result(queries=20)).encode())
    text[place % len(text)] = byte
    path = tmp_path / "fuzzed.json"
    path.write_bytes(bytes(text))
    try:
        results, rows = read_results([path])
    except EdgepackError as error:
        message = error.message
    else:
        assert len(results) + len(rows) == 1
        return
    assert "fuzzed.json" in message
