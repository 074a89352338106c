"""A measurement of another machine never stands for its target: not in a figure, not in the recommendation."""

import csv
import io

import made_up
import pytest

from edgepack.engines.targets import load_target
from edgepack.report.entries import make_groups
from edgepack.report.entries.choice import Limits, choose
from edgepack.report.formats.csv import to_csv
from edgepack.report.formats.markdown import to_markdown
from edgepack.report.html.page import to_html
from edgepack.report.text import remarks
from edgepack.report.text.conditions import judge, parse_condition
from edgepack.report.text.sentences import recommendation

PI = made_up.other_host(
    "Raspberry Pi 5 Model B Rev 1.0 (Arm Cortex-A76)",
    arch="aarch64",
    isa=load_target("raspberry-pi-5").compute.isa,
)


def other(median_ms=0.1, **changes):
    """A raspberry-pi-5 int8 bundle measured on an x86 host, faster than anything else."""
    return made_up.result("raspberry-pi-5", "int8", median_ms, **changes)


def entries_of(results, rows=()):
    (group,) = make_groups(results, rows)
    return group.entries


@pytest.mark.parametrize("stands", [False, None, True], ids=["said", "judged", "denied"])
@pytest.mark.parametrize("with_row", [False, True])
def test_it_never_wins(stands, with_row):
    here = made_up.result("host-openvino", "int8", 4.0)
    stray = other(stands_for_target=stands)
    rows = [made_up.row("raspberry-pi-5", "int8", sha256=stray.bundle_sha256)] if with_row else []
    entries = entries_of([here, stray], rows)
    assert entries[choose(entries, Limits()).best].target == "host-openvino"
    (pi,) = [entry for entry in entries if entry.target == "raspberry-pi-5"]
    assert (pi.measured, pi.latency_ns, pi.result, pi.speedup, pi.measured_on) == (False, {}, None, None, None)
    assert pi.elsewhere == (stray,)
    alone = entries_of([stray], rows)
    assert choose(alone, Limits()).best is None
    assert "only on other machines" in recommendation(alone, Limits())


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({"stands_for_target": True}, False),
        ({"stands_for_target": True, "host": PI}, True),
        ({"stands_for_target": True, "target": "a-board-of-mine"}, True),
        ({"host": PI}, True),
        ({"host": made_up.other_host("unknown", arch="unknown", os="unknown", isa=())}, True),
        ({"target": "host-openvino"}, True),
        ({"target": "a-board-of-mine"}, True),
        ({"target": "a-board-of-mine", "stands_for_target": False}, False),
        ({"host": made_up.other_host("Arm Neoverse-N1", arch="aarch64")}, False),
    ],
)
def test_the_host_tells_also_where_the_document_says_otherwise(changes, stands):
    values = {"target": "raspberry-pi-5", "precision": "int8", **changes}
    (entry,) = entries_of([made_up.result(**values)])
    assert entry.measured is stands


def test_what_was_measured_elsewhere_is_said_as_what_it_is():
    entries = entries_of([made_up.result("host-openvino", "int8", 4.0), other()])
    texts = [remark.text for remark in remarks.not_measured(entries)]
    (text,) = [text for text in texts if text.startswith("Measured elsewhere")]
    assert "on Made-up M-1000 with raspberry-pi-5, SingleStream p50" in text
    assert "that is not raspberry-pi-5" in text


def test_no_format_files_its_figures_under_the_target():
    results, rows = (made_up.result("host-openvino", "int8", 4.0), other(0.1234)), ()
    records = list(csv.DictReader(io.StringIO(to_csv(results, rows))))
    (pi,) = [record for record in records if record["target"] == "raspberry-pi-5"]
    assert [key for key, value in pi.items() if value and "p50" in key] == []
    assert "Take host-openvino int8" in to_markdown(results, rows)
    page = to_html(results, rows)
    assert "Take raspberry-pi-5" not in page


def test_a_condition_is_not_judged_by_it():
    found = judge(entries_of([other()]), [parse_condition("p90 > 1us")])
    outcomes = {finding.row: finding.outcome for finding in found if finding.condition != "build"}
    assert outcomes == {"raspberry-pi-5 int8": "skipped", "all rows": "error"}
