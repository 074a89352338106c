"""Thousands of rows: four times as many take about four times as long, in every format."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import made_up
import pytest

from edgepack.base.documents import to_json
from edgepack.cli.measure import write_reports
from edgepack.report.formats.csv import to_csv
from edgepack.report.formats.junit import to_junit
from edgepack.report.formats.markdown import to_markdown
from edgepack.report.html.page import to_html
from edgepack.report.text.conditions import parse_condition
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

pytestmark = pytest.mark.long

Both = tuple[tuple[Result, ...], tuple[BuildRow, ...]]


def of_one_model(count: int) -> Both:
    first = made_up.full_build()[0][0]
    hosts = [dataclasses.replace(first.host, cpu=f"CPU {i}") for i in range(50)]
    return tuple(
        dataclasses.replace(
            first,
            bundle_sha256=f"{i:064x}",
            host=hosts[i % 50],
            target=f"t{i % 200}",
            precision=("fp32", "int8")[i % 2],
        )
        for i in range(count)
    ), ()


def of_one_bundle(count: int) -> Both:
    first = made_up.full_build()[0][0]
    return tuple(dataclasses.replace(first, measured_at=f"{i}") for i in range(count)), ()


def of_builds(count: int) -> Both:
    results, rows = made_up.full_build()
    named = [(f"t{i}", f"{i:064x}") for i in range(count)]
    return (
        tuple(dataclasses.replace(results[0], target=target, bundle_sha256=digest) for target, digest in named),
        tuple(dataclasses.replace(rows[0], target=target, sha256=digest) for target, digest in named),
    )


def of_many_models(count: int) -> Both:
    row = made_up.full_build()[1][0]
    return (), tuple(
        dataclasses.replace(row, model=f"m{i}", source_sha256="", sha256=f"{i:064x}") for i in range(count)
    )


FORMATS: dict[str, Callable[..., object]] = {
    "html": to_html,
    "markdown": to_markdown,
    "csv": to_csv,
    "junit": lambda results, rows: to_junit(results, rows, (parse_condition("p90 > 1ms"),)),
}


def seconds(function: Callable[..., object], both: Both) -> float:
    """The CPU seconds of the process itself; a round of the collector walks all that earlier tests left behind."""
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        function(*both)
        return time.process_time() - begun
    finally:
        gc.enable()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("make", [of_one_model, of_one_bundle, of_builds, of_many_models])
def test_the_time_grows_with_the_rows_and_not_with_their_square(make: Callable[[int], Both], name: str) -> None:
    """Sixteen times would be the square; the best of up to three tries for each, as the machine may be busy."""
    small, large = make(300), make(1200)
    fast, slow = float("inf"), float("inf")
    for _ in range(3):
        fast = min(fast, seconds(FORMATS[name], small))
        slow = min(slow, seconds(FORMATS[name], large))
        if slow < 7 * fast:
            return
    pytest.fail(f"{slow:.3f} s for four times the rows of {fast:.3f} s")


def test_ten_thousand_rows_take_as_long_for_each_as_a_thousand() -> None:
    """3 s on a quiet core, 7 s beside other work; the square would be a hundred times the thousand's."""
    assert seconds(to_html, of_one_model(10_000)) < 30 * seconds(to_html, of_one_model(1000))


def test_ten_thousand_files_become_a_page_in_a_time_in_proportion(tmp_path: Path) -> None:
    """From the files to the page: 5 s on a busy core, of which reading them is less than half."""
    text = to_json(made_up.result(bundle_sha256="0" * 64, target="board"))
    taken = []
    for count in (1000, 10_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            digest = hashlib.sha256(str(i).encode()).hexdigest()
            mine = text.replace("0" * 64, digest).replace('"board"', f'"board-{i % 80}"')
            (folder / f"{i}.json").write_text(mine.replace('"bundle_name": "', f'"bundle_name": "{i // 80} '))
        begun = time.process_time()
        found = write_reports((folder,), (folder / "page.html",), None, ())
        taken.append(time.process_time() - begun)
        assert len(found.results) == count
    assert taken[1] < 30 * taken[0], taken
    assert (folder / "page.html").stat().st_size > 10_000_000


def test_no_collection_goes_through_what_a_report_was_made_of(tmp_path: Path) -> None:
    """It took a fifth of the time of ten thousand files: all objects of a report are young when it is written."""
    for i in range(20):
        (tmp_path / f"{i}.json").write_text(to_json(made_up.result(bundle_sha256=f"{i:064}", target="board")))
    gc.collect()
    gc.unfreeze()
    seen = 0

    def count(phase: str, info: dict[str, int]) -> None:
        nonlocal seen
        if phase == "start":
            seen = max(seen, sum(len(gc.get_objects(generation)) for generation in range(info["generation"] + 1)))

    gc.callbacks.append(count)
    try:
        found = write_reports((tmp_path,), (tmp_path / "page.html",), None, ())
        made = [[] for _ in range(2 * gc.get_threshold()[0])]
    finally:
        gc.callbacks.remove(count)
        gc.unfreeze()
    assert len(found.results) == 20
    assert seen <= len(made)
