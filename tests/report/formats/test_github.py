import dataclasses

import made_up

from edgepack.report.formats.github import to_annotations


def test_what_failed_and_what_is_no_faster_is_annotated():
    results, rows = made_up.labelled_build()
    slower = dataclasses.replace(rows[3], speedup_over_fp32=0.9, speedup_ci95=(0.85, 0.97))
    found = to_annotations(results, (*rows[:3], slower, *rows[4:]), ("net: p90 > 1ms: p90 is 2 ms",))
    assert found == (
        "::error title=a condition of --fail-if holds::net: p90 > 1ms: p90 is 2 ms",
        "::warning title=resnet20 host-onnxruntime int8%3A not faster than fp32::fp32 is recommended there",
        "::error title=resnet20 intel-n100 int8%3A failed::openvino refused model.onnx: operator Foo is unknown "
        "(try --precision fp32)",
    )


def test_nothing_of_a_document_is_a_command_to_the_runner():
    _, rows = made_up.labelled_build()
    row = dataclasses.replace(rows[5], target="a,b::error::x", reason="50 %\n::set-output name=x::y\r")
    (line,) = to_annotations((), (row,), ())
    assert "\n" not in line
    assert "\r" not in line
    assert line.startswith("::error title=resnet20 a%2Cb%3A%3Aerror%3A%3Ax int8%3A failed::50 %25%0A::set-output")


def test_a_job_shows_so_many():
    rows = tuple(made_up.row(f"board-{i}", status="failed", reason="no") for i in range(200))
    assert len(to_annotations((), rows, ())) == 50
