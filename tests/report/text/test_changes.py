"""What changed, on the page: a sentence, tables, and samples; all of it as text, and not too much of it."""

from __future__ import annotations

import base64
import dataclasses

import made_up
import pytest

from edgepack.report.entries import make_groups
from edgepack.report.html.page import to_html
from edgepack.report.text.changes import changed_entries, changed_text
from edgepack.specs.changes import Changed, Changes, ClassBoxes, Confusion

PICTURE = base64.b64encode(b"\xff\xd8 a picture").decode()
CHANGES = Changes(
    400, 9, "labels", (Confusion("cat", "dog", 1, 4),), (ClassBoxes("bus", 3, 1),),
    (
        Changed(6, ("cat 0.9",), ("dog 0.5",), pictures=(PICTURE, PICTURE)),
        Changed(8, ("yes",), ("no",), text="is it so?", name=f"{'a' * 60}/line.csv line 9"),
        Changed(9, ("up",), ("down",), levels=(0.0, 1.0, 0.5)),
    ),
    (("Conv_7", 4.25),),
)  # fmt: skip


def build(changes: Changes = CHANGES):
    results, rows = made_up.labelled_build()
    return results, (rows[0], dataclasses.replace(rows[1], changes=changes), *rows[2:])


def test_sentences() -> None:
    assert changed_text(CHANGES) == "The answers to 9 of 400 samples changed"
    assert changed_text(Changes(16, 0)) == "No answer to the 16 samples changed"
    assert (
        "The answers to 9 of 400 samples changed." in to_html(*build()).split("What int8 changed")[0]
    )  # on the first screen too


def test_an_entry_has_its_tables_and_examples() -> None:
    (group,) = make_groups(*build())
    (found,) = changed_entries(group.entries)
    assert (found.label, found.precision, found.left_out) == ("host-openvino int8", "int8", 0)
    assert found.boxes == (("bus", "3", "1"),)
    assert found.confusions == (("cat", "dog", "1", "4"),)
    assert found.truth == "labelled"
    assert found.layers == (("Conv_7", "4.25"),)
    assert [example.title for example in found.examples] == [
        "sample 7", f"…{'a' * 43}/line.csv line 9", "sample 10",
    ]  # fmt: skip
    assert found.examples[0].pictures == (f"data:image/jpeg;base64,{PICTURE}",) * 2
    assert found.examples[2].curve == "0.0,48.0 110.0,0.0 220.0,24.0"


def test_the_page_shows_them_and_only_where_there_are_any() -> None:
    page = to_html(*build())
    assert page.count("<img") == 2
    assert page.count('<polyline points="0.0,48.0') == 1
    for text in ("What int8 changed: host-openvino int8", "is it so?", "Conv_7 (4.25 dB)", "Confused more often"):
        assert text in page
    assert "int8 changed" not in to_html(*made_up.labelled_build())


HOSTILE = '"><img src=x onerror=alert(1)><script>'


def test_all_of_it_is_text() -> None:
    changes = Changes(
        3, 1, "labels", (Confusion(HOSTILE, HOSTILE, 0, 1),), (ClassBoxes(HOSTILE, 1, 0),),
        (Changed(0, (HOSTILE,), (HOSTILE,), HOSTILE, pictures=(HOSTILE, "AAAA\n", PICTURE), levels=(1e9, -1e9)),),
        ((HOSTILE, 1.0),),
    )  # fmt: skip
    page = to_html(*build(changes))
    assert "<img" not in page  # a picture that is not base64 is none
    assert page.count("<script>") == to_html(*made_up.labelled_build()).count("<script>")
    assert page.count("onerror=alert(1)&gt;") >= 6
    assert "0.0,0.0 220.0,48.0" in page


@pytest.mark.parametrize(("bytes_each", "shown"), [(40_000, 12), (200_000, 3)])
def test_the_page_stays_below_two_megabytes(bytes_each: int, shown: int) -> None:
    picture = base64.b64encode(bytes(bytes_each * 3 // 4)).decode()
    examples = tuple(Changed(i, ("a",), ("b",), pictures=(picture, picture)) for i in range(12))
    page = to_html(*build(dataclasses.replace(CHANGES, examples=examples)))
    assert len(page) < 2_000_000
    assert page.count('<li><p class="name">') == shown
    assert ("would make this page too large" in page) == (shown < 12)
