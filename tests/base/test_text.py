"""Text from anybody is shown and obeyed by nothing."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.base.text import markdown, one_line, printable, printable_json, shortened, spreadsheet, xml

HOSTILE = {
    "\x1b[2J\x1b]0;title\x07": r"\x1b[2J\x1b]0;title\x07",
    "a\rb": r"a\x0db",
    "\x9b31m": r"\x9b31m",
    "safe\u202eexe.fdp": r"safe\u202eexe.fdp",
    "\u2066x\u2069": r"\u2066x\u2069",
    "zero\u200bwidth\ufeff": r"zero\u200bwidth\ufeff",
    "line\u2028end": r"line\u2028end",
    "tag\U000e0041": r"tag\U000e0041",
    "half\ud800": r"half\ud800",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_what_a_terminal_obeys_or_a_reader_does_not_see_is_shown_as_its_number(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["Zürich 苹果 🍎", "a\tb\nc", "می‌خواهم", "👩‍🔬", "עברית", "±½…", "C:\\new"])
def test_text_of_any_language_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text())
def test_nothing_that_controls_is_left(text: str) -> None:
    kinds = {unicodedata.category(c) for c in printable(text) if c not in "\t\n\u200c\u200d"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in printable(text)} & {
        "LRE",
        "RLE",
        "LRO",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
    }
    assert "\n" not in one_line(text)


@given(st.dictionaries(st.text(), st.text()))
def test_json_says_the_same_without_controls(document: dict[str, str]) -> None:
    text = json.dumps(document, ensure_ascii=False)
    shown = printable_json(text)
    assert printable(shown) == shown
    assert json.loads(shown) == document


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1+1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"],
)
def test_a_cell_is_no_formula(text: str) -> None:
    assert spreadsheet(text).startswith("'")
    out = io.StringIO()
    csv.writer(out).writerow([spreadsheet(text)])
    (cell,) = next(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert cell.startswith("'")


def test_other_cells_stay() -> None:
    assert [spreadsheet(value) for value in (True, -1, 2.5, None, "a=b", "a\r\nb")] == [
        "true", -1, 2.5, None, "a=b", "a\r\nb",
    ]  # fmt: skip


LINKS = [
    ("see https://evil.example/x", "https:&#8203;//evil"),
    ("HTTP://EVIL.EXAMPLE", "HTTP:&#8203;//EVIL"),
    ("ftp://x.example", "ftp:&#8203;//x"),
    ("www.evil.example", "www&#8203;.evil"),
    ("mail me@evil.example", "me@&#8203;evil"),
    ("mailto:me", "mailto:&#8203;me"),
    ("thanks @octocat", "@&#8203;octocat"),
    ("fixes #12", "#&#8203;12"),
    ("merge !12", "!&#8203;12"),
    ("GH-12", "GH-&#8203;12"),
    ("owner/repo#12", "repo#&#8203;12"),
]


@pytest.mark.parametrize(("text", "shown"), LINKS)
def test_nothing_becomes_a_link_in_markdown(text: str, shown: str) -> None:
    assert shown in markdown(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("+ item", "\\+ item"),
        ("1. item", "1\\. item"),
        ("---", "\\---"),
        ("===", "\\==="),
        ("**a** `b` <script> [x](y) a|b ~c~ &amp; $x$", None),
        ("a\n\n# b", "a # b"),
        ("a\u202eb", r"a\\u202eb"),
        ("4.11 (4.10-4.13)", "4.11 (4.10-4.13)"),
        ("i7 @ 2.20GHz", "i7 @ 2.20GHz"),
    ],
)
def test_nothing_is_markup_in_markdown(text: str, shown: str | None) -> None:
    if shown is not None:
        assert markdown(text) == shown
    for character in "*`<>[]|~&$":
        assert markdown(text).count(character) == markdown(text).count("\\" + character)


def test_xml_holds_what_xml_can() -> None:
    text = "".join(HOSTILE) + "\x00\ufffe\uffff"
    element = Xml.Element("a", name=xml(text))
    element.text = xml(text)
    assert Xml.fromstring(Xml.tostring(element, encoding="unicode")).text == xml(text)


def test_text_that_is_too_long_ends_with_an_ellipsis() -> None:
    assert [shortened("abcd", most) for most in (5, 4, 3)] == ["abcd", "abcd", "ab…"]
