"""Tables in a width: what goes, what is cut, and what never is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape

from edgepack.cli.show.layout import Command, Table, cut_to, lay_out, lay_out_command, plain, safe, width_of


@given(st.text(alphabet="[]\\/ab#@ \n", max_size=20))
def test_text_is_escaped_as_rich_does(text: str) -> None:
    assert safe(text) == escape(text)
    if not text.endswith("\\"):  # rich doubles the last backslash, which it takes for the escape of a mark to come
        assert plain(safe(text)) == text


def test_marks_are_left_out() -> None:
    assert plain(f"[bold]{safe('a[b]')}[/] and [red]more[/]") == "a[b] and more"


def example() -> Table:
    table = Table(
        ("target", "status", "size", "p50", "p90"), ("size", "p50", "p90"), units={"size": "kB", "p50": "ms"},
        cut=("target",), spare=("size", "p50"), scarce=("p90",),
    )  # fmt: skip
    table.add_row("jetson-agx-orin-64gb-jp6", "[red]failed[/]", "1234", "0.125", "17.25")
    table.add_row(safe("[bold]board"), "ok", "1", "1", "2")
    return table


def shown(table: Table, width: int | None) -> list[str]:
    return [plain(line) for line in lay_out(table, width)]


def test_nothing_is_lost_where_nothing_limits_the_width() -> None:
    assert shown(example(), None) == [
        "target                    status  size    p50    p90",
        "                                    kB     ms",
        "─" * 52,
        "jetson-agx-orin-64gb-jp6  failed  1234  0.125  17.25",
        "[bold]board               ok         1      1      2",
    ]


@pytest.mark.parametrize(
    ("width", "head", "first"),
    [
        (52, "target status size p50 p90", "jetson-agx-orin-64gb-jp6 failed 1234 0.125 17.25"),
        (51, "target status p50 p90", "jetson-agx-orin-64gb-jp6 failed 0.125 17.25"),
        (45, "target status p90", "jetson-agx-orin-64gb-jp6 failed 17.25"),
        (38, "target status p90", "jetson-agx…64gb-jp6 failed 17.25"),
        (28, "target status", "jetson-ag…4gb-jp6 failed"),
    ],
)
def test_what_is_worth_least_goes_first_and_then_text_is_cut(width: int, head: str, first: str) -> None:
    lines = shown(example(), width)
    assert max(map(width_of, lines)) <= width
    assert " ".join(lines[0].split()) == head
    row = next(line for line in lines if line.startswith("jetson"))
    assert " ".join(row.split())[:6] == first[:6]
    assert " ".join(row.split()).split()[1:] == first.split()[1:]
    assert ("…" in row) == ("…" in first)


@given(
    # Without backslashes, of which rich doubles a last one.
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="\\"), max_size=12),
        min_size=4,
        max_size=12,
    ),
    st.integers(20, 120),
)
def test_whatever_the_text_no_line_is_wider_and_no_figure_changes(words: list[str], width: int) -> None:
    table = Table(("name", "figure", "why"), ("figure",), ("why",), cut=("name",))
    rows = [tuple(map(safe, (a * 3, "12.5", " ".join([a, b] * 5)))) for a, b in itertools.pairwise(words)]
    for row in rows:
        table.add_row(*row)
    lines = lay_out(table, width)
    if len(lines) > 1 and lines[1].startswith("─"):  # a table, not a block a row
        assert max(map(width_of, lines)) <= width
    assert sum("12.5" in line for line in lines) >= len(rows)


def test_blocks_are_as_narrow_as_their_words() -> None:
    table = Table(("key", "value", "source"), wrapped=("source",))
    words = "Technical Reference Manual: half-precision floating point and dot product instructions"
    table.add_row("compute.isa", "asimd", f"[dim]{words}[/]")
    table.add_row("limits.memory", "4", "https://example.com/a-path-of-one-word-that-stays-whole")
    assert shown(table, 33) == [
        "key     compute.isa",
        "value   asimd",
        "source  Technical Reference",
        "        Manual: half-precision",
        "        floating point and dot",
        "        product instructions",
        "",
        "key     limits.memory",
        "value   4",
        "source  https://example.com/a-path-of-one-word-that-stays-whole",
    ]


def test_text_is_cut_in_its_middle_and_keeps_its_mark() -> None:
    assert cut_to("abcdefghij", 5) == "ab…ij"
    assert cut_to("[red]abcdefghij[/]", 5) == "[red]ab…ij[/]"
    assert cut_to("abc", 3) == "abc"
    assert width_of(cut_to("日本語日本語", 6)) <= 6
    assert plain(cut_to(safe("[a][a][a][a]"), 7)) == "[a]…[a]"


def test_east_asian_text_takes_two_columns_and_accents_none() -> None:
    assert (width_of("日本"), width_of("e\u0301"), width_of("[red]ok[/]")) == (4, 1, 2)
    table = Table(("name", "size"))
    table.add_row("日本", "1")
    table.add_row("abcd", "2")
    assert [
        line.index(last) + extra for line, last, extra in zip(shown(table, None)[2:], "12", (2, 0), strict=True)
    ] == [6, 6]


def test_several_columns_of_long_text_share_the_room() -> None:
    table = Table(("key", "value", "source"), wrapped=("value", "source"))
    table.add_row("k", "word " * 20, "other " * 20)
    lines = shown(table, 60)
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).count("word") == 20
    assert " ".join(lines).count("other") == 20


def test_a_command_fits_and_keeps_an_option_with_its_value() -> None:
    words = ("edgepack", "run", "net-int8.edgepack", "--yes", "--min-sqnr", "-200", "--input", "FILE", "-o", "x")
    assert lay_out_command(Command(words), 36) == [
        "  edgepack run net-int8.edgepack \\",
        "    --yes --min-sqnr -200 \\",
        "    --input FILE -o x",
    ]
    assert lay_out_command(Command(words), None) == [f"  {' '.join(words)}"]
