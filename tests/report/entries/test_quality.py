import dataclasses

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.entries.quality import by_engine, saturates, short_isa


def of(results, rows=()):
    (group,) = make_groups(tuple(results), tuple(rows))
    return by_engine(group.entries)


def test_each_engine_and_instruction_set_has_a_line():
    table = of(*made_up.full_build())
    assert table.title == "Top-1 accuracy, %, by engine and instruction set"
    assert table.precisions == ("fp32", "int8")
    assert [(line.engine, line.isa) for line in table.lines] == [
        ("onnxruntime 1.2.3", "AVX-512 VNNI"),
        ("onnxruntime 1.2.3", "AVX2"),
        ("openvino 1.2.3", "AVX-512 VNNI"),
        ("openvino 1.2.3", "AVX2"),
    ]
    assert table.lines[0].cells[0] == ("91.98", "")
    assert "clip at 16 bits" in table.lines[1].note
    assert table.lines[0].note == ""


def test_a_row_alone_tells_what_it_was_evaluated_with():
    row = made_up.row(
        "raspberry-pi-5",
        "int8",
        accuracy=made_up.accuracy(),
        evaluated_with="onnxruntime 9",
        evaluated_isa=("asimddp",),
    )
    (line,) = of((), (row,)).lines
    assert (line.engine, line.isa) == ("onnxruntime 9", "dot product")
    assert line.cells[0] == ("91.34", "drop +0.64 (+0.31 to +0.97)")


def test_a_bundle_counts_once_and_of_several_the_ends_are_shown():
    measured = [made_up.measured(made_up.accuracy(value)) for value in (0.91, 0.92)]
    one = made_up.result("a", "int8", accuracy=measured[0])
    again = made_up.result("a", "int8", accuracy=measured[0], options=made_up.RunOptions(threads=1))
    other = made_up.result("b", "int8", accuracy=measured[1])
    (line,) = of((one, again)).lines
    assert line.cells[0][0] == "91.00"
    (line,) = of((one, again, other)).lines
    assert line.cells[0] == ("91.00\u201392.00", "2 bundles")


def test_without_labels_it_is_agreement():
    found = made_up.result("a", "int8", accuracy=made_up.measured(None, agreement=0.973, sqnr_db=20.0))
    table = of((found,))
    assert table.title.startswith("Agreement with fp32, %")
    assert table.lines[0].cells == (("97.30", ""),)


def test_nothing_known_is_no_table():
    assert of(*made_up.labelled_build()) is None


def test_evaluation_of_a_build_fills_in_engine_and_instruction_set():
    from edgepack.pipeline.rows import with_evaluation
    from edgepack.specs.run import Verification
    from edgepack.verify.closeness import Closeness
    from edgepack.verify.evaluate import Evaluation

    fields = {f.name: None for f in dataclasses.fields(Closeness)}
    verification = Verification(True, (), 4, "onnxruntime", {"onnxruntime": "1.2.3"}, ("avx2",))
    close = Closeness(**{**fields, "n": 10})
    row = with_evaluation(made_up.row(), Evaluation(verification, None, "no labels", close))
    assert (row.evaluated_with, row.evaluated_isa) == ("onnxruntime 1.2.3", ("avx2",))


@pytest.mark.parametrize(
    ("isa", "name", "clips"),
    [
        (("amx_int8", "avx2", "avx512_vnni", "avx512f", "ssse3"), "AMX, AVX-512 VNNI", False),
        (("avx", "avx2", "avx_vnni"), "AVX-VNNI", False),
        (("avx", "avx2", "avx512f"), "AVX-512", True),
        (("avx2",), "AVX2", True),
        (("asimd", "asimddp", "i8mm"), "I8MM", False),
        (("asimd",), "NEON", False),
        ((), "instruction set unknown", False),
        (("rvv",), "rvv", False),
    ],
)
def test_what_of_an_instruction_set_matters_to_int8(isa, name, clips):
    assert short_isa(isa) == name
    assert saturates(isa) is clips
