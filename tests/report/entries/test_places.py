"""A figure of one machine beside that of another one: each is shown as its own, none stands for the other."""

from __future__ import annotations

import dataclasses

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.entries.places import places
from edgepack.report.formats.markdown import to_markdown
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result

HERE = made_up.result("host-openvino", "int8", 4.0)
FAST = dataclasses.replace(
    made_up.result("host-openvino", "int8", 0.4), host=made_up.other_host("Fast 9000"), bundle_sha256=HERE.bundle_sha256
)


def measured_row(result: Result = HERE) -> BuildRow:
    row: BuildRow = made_up.row("host-openvino", "int8", of=result)
    assert row.measured_on is not None
    assert row.measured_on.startswith(HERE.host.cpu)
    return row


def test_a_row_that_was_measured_here_stays_beside_a_result_of_another_machine() -> None:
    (group,) = make_groups((FAST,), (measured_row(),))
    assert sorted(places(group.entries)) == sorted((FAST.host.cpu, measured_row().measured_on or ""))
    told = {entry.measured_on: entry.latency_ns[50.0].value_ns for entry in group.entries}
    assert sorted(told.values())[0] < 1_000_000 < sorted(told.values())[1]
    assert [on for on, ns in told.items() if (ns or 0) < 1_000_000] == ["Fast 9000, openvino 1.2.3"]
    text = to_markdown((FAST,), (measured_row(),))
    assert "Take host-openvino int8 on Fast 9000" in text
    assert "host-openvino (Fast 9000)" in text
    assert "host-openvino (Made-up M-1000" in text


@pytest.mark.parametrize("results", [(HERE,), (HERE, FAST), (FAST, HERE)])
def test_a_row_whose_own_result_is_there_is_one_with_it(results: tuple[Result, ...]) -> None:
    (group,) = make_groups(results, (measured_row(),))
    assert sorted(places(group.entries)) == sorted(result.host.cpu for result in results)
    assert all(
        place in (entry.measured_on or "") for entry, place in zip(group.entries, places(group.entries), strict=True)
    )


def test_rows_that_name_the_processor_of_a_result_are_of_it() -> None:
    other = made_up.result("host-onnxruntime", "int8", 3.0)
    (group,) = make_groups((HERE,), (measured_row(), made_up.row("host-onnxruntime", "int8", of=other)))
    assert places(group.entries) == (HERE.host.cpu, HERE.host.cpu)
    assert "M-1000)" not in to_markdown((HERE,), (measured_row(),))
