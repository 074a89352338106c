"""What is missing and why, each said once."""

import made_up

from edgepack.report.entries import make_groups
from edgepack.report.text import remarks


def test_remarks_say_each_reason_once_with_its_rows():
    (group,) = make_groups(*made_up.unlabelled_build())
    missing = {r.text: r.about for r in remarks.not_measured(group.entries)}
    assert missing["Accuracy: not measured: the samples have no labels"][0] == "host-openvino fp32"
    assert missing["Latency: not measured: no such device here"] == ("raspberry-pi-5 int8",)
    assert any(text.startswith("Energy: no sensor") for text in missing)
    (disturbed,) = remarks.disturbances(group.entries)
    assert "41.0%" in disturbed.text
    assert len(disturbed.about) == 4
    (failure,) = remarks.failures(group.entries)
    assert failure.about == ("intel-n100 int8",)


def test_what_was_not_measured_lists_nothing_else():
    """How a row came to be (its corrections, layers that the gate left in fp32) is told among the circumstances."""
    notes = {"latency": "not measured: no such device here", "corrections": "gains 31.2 dB", "gate": "2 layers in fp32"}
    (group,) = make_groups((), (made_up.row("raspberry-pi-5", "int8", notes=notes),))
    missing = [remark.text for remark in remarks.not_measured(group.entries)]
    assert missing == ["Accuracy: not measured: no labels were given", "Latency: not measured: no such device here"]
    told = [remark.text for remark in remarks.circumstances(group.entries)]
    assert told == ["Corrections: gains 31.2 dB", "Gate: 2 layers in fp32"]


def test_figures_of_one_row_that_are_compared_stay_together():
    """Of two rows' times with and without the task in the graph, the least and the greatest would compare nothing."""
    notes = [
        {"embedded": f"the answer in {a} ms, without {b} ms", "samples": f"{a} of them"} for a, b in ((3, 4), (9, 8))
    ]
    rows = tuple(made_up.row("raspberry-pi-5", p, notes=n) for p, n in zip(("fp32", "int8"), notes, strict=True))
    (group,) = make_groups((), rows)
    assert [remark.text for remark in remarks.circumstances(group.entries)] == [
        "Embedded: the answer in 3 ms, without 4 ms",
        "Samples: 3–9 of them",  # noqa: RUF001
        "Embedded: the answer in 9 ms, without 8 ms",
    ]
