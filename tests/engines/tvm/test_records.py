"""The file of tuning records: kept whole, cut short, damaged, of others, merged."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuning_cases import DEPTHWISE, POINTWISE, WIDE, WINDOW, empty, record

from edgepack.engines.tvm.codegen.machine import machine
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.records import Records, Trial, digest_of, load_records, path_of, read_records
from edgepack.errors import ConfigError, StorageError


def filled(folder: Path) -> Records:
    records = empty(folder)
    for workload in (POINTWISE, WINDOW, DEPTHWISE):
        records.add(record(workload))
    return records


def load(path: Path) -> Records:
    return load_records(path, WIDE, "0.27.0")


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    records = filled(tmp_path)
    assert load(records.path).by_workload == records.by_workload
    assert not load(records.path).cut
    assert load(records.path).by_workload[WINDOW].ratio == 0.8


def test_a_later_record_of_a_kernel_counts(tmp_path: Path) -> None:
    records = filled(tmp_path)
    records.add(record(WINDOW, {}))
    assert load(records.path).by_workload[WINDOW].best is None
    assert load(records.path).by_workload[WINDOW].ratio == 1.0
    assert len(load(records.path).by_workload) == 3


def test_without_a_file_there_are_no_records(tmp_path: Path) -> None:
    assert load(tmp_path / "none.jsonl").by_workload == {}
    assert digest_of(tmp_path / "none.jsonl") is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1))
def test_a_file_cut_anywhere_in_its_last_line_loses_that_line_alone(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "records.jsonl"
    path.unlink(missing_ok=True)
    whole = filled(tmp_path).path.read_bytes()
    last = len(whole) - whole[:-1].rfind(b"\n") - 1
    path.write_bytes(whole[: len(whole) - 1 - cut % (last - 1)])
    found = load(path)
    assert found.cut
    assert set(found.by_workload) == {POINTWISE, WINDOW}
    found.add(record(DEPTHWISE))
    assert path.read_bytes() == whole
    assert not load(path).cut


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (lambda lines: [], "is not a file of tuning records"),
        (lambda lines: [b"\x00\xff\xfe"], "is not a file of tuning records"),
        (lambda lines: [b"[" * 100_000], "is not a file of tuning records"),
        (lambda lines: [b'{"edgepack_tuning": 99}', *lines[1:]], "version 99"),
        (lambda lines: [b'{"edgepack_tuning": 1}', *lines[1:]], "for which processor"),
        (lambda lines: [lines[0], lines[1][:-9], *lines[2:]], "damaged at line 2"),
        (lambda lines: [lines[0], b"null", *lines[2:]], "damaged at line 2"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"vectors":2', b'"vectors":"2"'), *lines[3:]], "line 3"),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"flat"', b'"round"').replace(b'"window"', b'"round"')],
            "line 3",
        ),
        (lambda lines: [*lines[:2], lines[2].replace(b'"rule_ns":1000.0', b'"rule_ns":NaN')], "line 3"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"rule_ns":1000.0', b'"rule_ns":-1.0')], "line 3"),
        (lambda lines: [*lines[:2], lines[2].replace(b'"ratio":0.8', b'"ratio":0.0')], "line 3"),
    ],
)
def test_a_damaged_file_is_refused_and_says_where(tmp_path: Path, lines: object, words: str) -> None:
    path = filled(tmp_path).path
    changed = lines(path.read_bytes().splitlines())  # type: ignore[operator]
    path.write_bytes(b"".join(line + b"\n" for line in changed))
    with pytest.raises(ConfigError, match=words) as caught:
        load(path)
    assert "remove" in caught.value.hint


def test_records_of_another_processor_or_tvm_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path).path
    other = machine("x86_64", ("avx", "avx2", "fma"))
    with pytest.raises(ConfigError, match="another processor"):
        load_records(path, other, "0.27.0")
    with pytest.raises(ConfigError, match=r"TVM 0\.27\.0, and this is TVM 0\.28"):
        load_records(path, WIDE, "0.28")
    with pytest.raises(ConfigError, match="another processor"):
        Records(other, "0.27.0", tmp_path / "other.jsonl").merge(read_records(path))
    assert not (tmp_path / "other.jsonl").exists()


def test_every_processor_and_tvm_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPACK_TUNING", str(tmp_path))
    two = replace(WIDE, threads=2)
    paths = {path_of("host-tvm", WIDE, "1"), path_of("host-tvm", two, "1"), path_of("host-tvm", WIDE, "2")}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path}


def test_merging_takes_what_is_new_and_the_newer_of_two(tmp_path: Path) -> None:
    here, there = filled(tmp_path), empty(tmp_path / "there")
    older = record(POINTWISE, {Blocking(1, 4, 2, 16, False): 0.5}, at="2025-01-01T00:00:00Z")
    newer = record(WINDOW, {Blocking(1, 4, 2, 16, False): 0.5}, at="2026-06-01T00:00:00Z")
    new = record(replace(POINTWISE, outputs=512))
    for made in (older, newer, new):
        there.add(made)
    assert here.merge(read_records(there.path)) == 2
    assert load(here.path).by_workload[POINTWISE].ratio == 0.8
    assert load(here.path).by_workload[WINDOW].ratio == 0.5
    assert len(load(here.path).by_workload) == 4
    assert here.merge(read_records(there.path)) == 0


def test_the_same_records_are_exported_as_the_same_bytes(tmp_path: Path) -> None:
    a, b = empty(tmp_path / "a"), empty(tmp_path / "b")
    for workload in (POINTWISE, WINDOW):
        a.add(record(workload))
    for workload in (WINDOW, POINTWISE):
        b.add(record(workload))
    a.write(tmp_path / "a.jsonl")
    b.write(tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert load(tmp_path / "a.jsonl").by_workload == a.by_workload


def test_a_shorter_record_leaves_nothing_of_the_line_that_was_cut(tmp_path: Path) -> None:
    path = filled(tmp_path).path
    path.write_bytes(path.read_bytes()[:-2])
    load(path).add(record(DEPTHWISE, {}))
    assert not load(path).cut
    assert set(load(path).by_workload) == {POINTWISE, WINDOW, DEPTHWISE}


def add_many(folder: str, first: int, together: Any) -> None:
    records = empty(Path(folder))
    together.wait(60)
    for n in range(first, first + 200):
        records.add(record(replace(POINTWISE, outputs=n)))


@pytest.mark.slow
def test_several_processes_add_to_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(3)
    workers = [context.Process(target=add_many, args=(str(tmp_path), 1000 * n, together)) for n in range(1, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 601
    assert sum("edgepack_tuning" in json.loads(line) for line in lines) == 1
    assert len(load(tmp_path / "records.jsonl").by_workload) == 600


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        empty(tmp_path).add(record())


def test_a_full_disk_is_said() -> None:
    with pytest.raises(StorageError):
        Records(WIDE, "0.27.0", Path("/dev/full")).add(record())


def test_a_trial_is_a_tile_and_a_ratio() -> None:
    assert record().trials == (Trial(Blocking(1, 8, 2, 16, False), 0.8),)
