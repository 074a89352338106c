"""What the page's script does, in a real browser: it must choose, filter and draw as the page was made."""

import dataclasses
import math
import re
from pathlib import Path

import made_up
import pytest
from browser import find_chromium

from edgepack.report import html, units
from edgepack.report.entries import labels, make_groups, pareto
from edgepack.report.entries.choice import Limits, choose, latency_of
from edgepack.report.html.page import write_report

pytestmark = [
    pytest.mark.long,
    pytest.mark.own,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed: apt-get install chromium"),
]

WINNER = "document.querySelector('.winner').textContent"
VISIBLE = "[...document.querySelectorAll('table.rows tbody tr')].filter((r) => r.getClientRects().length).length"
DIMMED = "document.querySelectorAll('table.rows tbody tr.out').length"
KEPT = "Number(document.querySelector('output').textContent.match(/\\d+/)[0])"


@pytest.fixture
def page(browser, pages):
    browser.open(pages / "labelled_build.html")
    return browser


@pytest.fixture
def full(browser, pages):
    browser.open(pages / "full_build.html")
    return browser


@pytest.fixture
def many(browser, pages):
    browser.open(pages / "many.html")
    return browser


def entries_of(build):
    (group,) = make_groups(*build)
    return group.entries, labels(group.entries)


def set_value(browser, selector, value, event="input"):
    browser.run(
        f"(() => {{ const c = document.querySelector('{selector}'); c.value = '{value}';"
        f" c.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def test_the_page_and_the_static_text_choose_the_same(page):
    results, rows = made_up.labelled_build()
    (group,) = make_groups(results, rows)
    names = labels(group.entries)
    for points in (1.0, 0.64, 0.5, 0.0):
        page.type("input[name=quality]", str(points))
        best = choose(group.entries, Limits(quality=points / 100 + 1e-9)).best
        assert page.run(WINNER) == names[best]


def test_limits_filter_while_typing(page):
    assert page.run(WINNER) == "host-openvino int8"
    page.type("input[name=quality]", "0.1")
    assert page.run(WINNER) == "host-openvino fp32"
    assert page.run(DIMMED) == 3
    assert page.run(VISIBLE) == 6
    page.run("document.querySelector('input[name=hide]').click()")
    assert page.run(VISIBLE) == 3
    assert page.run("document.querySelector('output').textContent") == "2 of 5 rows keep them"
    page.type("input[name=latency]", "1")
    assert page.run(WINNER) == "Nothing that was measured keeps these limits."
    assert page.run("document.querySelectorAll('.stats div').length") == 0
    page.run("document.querySelector('button[type=reset]').click()")
    page.wait(f"{WINNER} === 'host-openvino int8'")


def test_a_decimal_comma_is_taken_and_nonsense_is_marked(page):
    page.type("input[name=quality]", "0,1")
    assert page.run(WINNER) == "host-openvino fp32"
    page.type("input[name=quality]", "banana")
    assert page.run("document.querySelector('input[name=quality]').getAttribute('aria-invalid')") == "true"
    assert page.run(WINNER) == "host-openvino int8"


def test_disturbed_measurements_can_be_left_out(browser, pages):
    browser.open(pages / "unlabelled_build.html")
    assert "Accuracy was not measured" in browser.run("document.querySelector('.caveat').textContent")
    browser.run("document.querySelector('input[name=undisturbed]').click()")
    assert browser.run(WINNER) == "Nothing that was measured keeps these limits."


def test_columns_sort_both_ways_with_what_is_missing_last(page):
    column = "[...document.querySelectorAll('table.rows tbody tr')].map((r) => r.children[2].dataset.order ?? null)"
    page.run("document.querySelectorAll('thead button')[2].click()")
    up = page.run(column)
    page.run("document.querySelectorAll('thead button')[2].click()")
    down = page.run(column)
    assert up[4:] == down[4:] == [None, None]
    assert [float(v) for v in up[:4]] == sorted(float(v) for v in up[:4])
    assert down[:4] == up[:4][::-1]


# --- presets and what they exclude ------------------------------------------------------------------------------------

PRESET = "document.querySelector('select.preset').selectedOptions[0].textContent"
EXCLUDED = "document.querySelector('.excluded').innerText.trim()"


def test_the_answer_says_what_a_limit_excludes_and_drops_it_on_demand(page):
    assert page.run(EXCLUDED) == ""
    assert page.run(PRESET) == "careful: at most 1 point of drop"
    page.type("input[name=quality]", "0.1")
    assert page.run(PRESET) == "your own"
    said = page.run(EXCLUDED)
    assert said.startswith("Your limit on quality excludes host-openvino int8: p90 2.36 ms")
    assert "1.86 times as fast as its fp32" in said
    page.run("document.querySelector('button.anyway').click()")
    assert page.run(WINNER) == "host-openvino int8"
    assert page.run(PRESET) == "any quality"
    assert page.run("document.querySelector('input[name=quality]').value") == ""
    assert page.run(EXCLUDED) == ""


def test_a_preset_sets_the_limit_and_a_link_keeps_it(page, browser, pages):
    set_value(page, "select.preset", "3")
    assert page.run("document.querySelector('input[name=quality]').value") == "3"
    behind = page.run("location.hash.slice(1)")
    assert behind == "quality=3"
    browser.open(pages / "labelled_build.html", behind=behind)
    assert browser.run(PRESET) == "tolerant: at most 3 points of drop"
    browser.run("document.querySelector('button[type=reset]').click()")
    browser.wait(f"{PRESET} === 'careful: at most 1 point of drop'")


def test_what_is_not_faster_than_fp32_is_not_taken_unless_something_else_is_preferred(browser, pages, tmp_path):
    results, rows = made_up.labelled_build()
    same = dataclasses.replace(rows[1], speedup_over_fp32=1.01, speedup_ci95=(0.97, 1.05))
    build = results[:2], (rows[0], same)
    write_report(*build, tmp_path / "same.html")
    browser.open(tmp_path / "same.html")
    assert browser.run(WINNER) == "host-openvino fp32"
    assert "Take fp32 there" in browser.run("document.querySelector('.devices li.gainless').textContent")
    set_value(browser, "select[name=prefer]", "size")
    assert browser.run(WINNER) == "host-openvino int8"
    set_value(browser, "select[name=prefer]", "latency")
    browser.type("input[name=size]", "500")
    assert browser.run(WINNER) == "host-openvino int8"


@pytest.mark.parametrize(("ratio", "tied"), [(1.04, False), (1.02, True)])
def test_what_a_ratio_measured_in_turn_tells_apart_is_no_tie(browser, tmp_path, ratio, tied):
    fp32, int8 = made_up.result("host-openvino", "fp32", 4.1), made_up.result("host-openvino", "int8", 4.13)
    ends = (ratio - 0.03, ratio + 0.03)
    row = made_up.row("host-openvino", "int8", int8, speedup_over_fp32=ratio, speedup_ci95=ends)
    write_report((fp32, int8), (made_up.row("host-openvino", "fp32", fp32), row), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    browser.type("input[name=size]", "5000")
    assert ("cannot be distinguished" in browser.run("document.querySelector('.caveat').textContent")) is tied


# --- preferences, words, sliders, links -------------------------------------------------------------------------------


def test_what_is_preferred_decides(full):
    entries, names = entries_of(made_up.full_build())
    kept = [e for e in entries if latency_of(e) and not e.disturbed]
    energy = min((e.result.energy_uj, latency_of(e)[0], names[entries.index(e)]) for e in kept)
    set_value(full, "select[name=prefer]", "energy")
    assert full.run(WINNER) == energy[2]
    assert "least energy of 6 measured ones" in full.run("document.querySelector('.among').textContent")
    set_value(full, "select[name=prefer]", "quality")
    assert full.run(WINNER).split()[1] == "fp32"
    assert "Its accuracy cannot be distinguished" in full.run("document.querySelector('.caveat').textContent")


def test_words_keep_the_rows_that_have_them_all(full):
    full.type("input[name=find]", "V-9 INT8")
    assert full.run(KEPT) == 2
    assert full.run(WINNER) == "host-openvino int8 on Made-up V-9"
    full.type("input[name=find]", "x86_64 onnxruntime fp32")
    assert full.run(KEPT) == 1
    full.type("input[name=find]", "no such word")
    assert full.run(KEPT) == 0
    assert full.run(WINNER) == "Nothing that was measured keeps these limits."


def test_a_slider_and_its_field_follow_each_other(page):
    slider = "input[data-for=latency]"
    assert page.run(f"document.querySelector('{slider}').getAttribute('aria-valuetext')") == "no limit"
    set_value(page, slider, "200")
    typed = float(page.run("document.querySelector('input[name=latency]').value"))
    low, high = (float(page.run(f"document.querySelector('{slider}').dataset.{end}")) for end in ("low", "high"))
    assert typed == pytest.approx((low + high) / 2, rel=0.01)
    assert page.run(KEPT) == 2
    page.type("input[name=latency]", str(low))
    assert page.run(f"Number(document.querySelector('{slider}').value)") == 0
    page.type("input[name=latency]", "")
    assert page.run(f"document.querySelector('{slider}').value") == "400"
    assert page.run(KEPT) == 5


def test_the_address_keeps_what_was_asked(browser, pages):
    browser.open(pages / "full_build.html")
    browser.type("input[name=quality]", "0.1")
    browser.type("input[name=find]", "a & b")
    set_value(browser, "select[name=prefer]", "size")
    address = browser.run("location.hash")
    assert address == "#quality=0.1&prefer=size&find=a%20%26%20b"
    browser.open(pages / "full_build.html", behind="quality=0.1&find=openvino&undisturbed=no&prefer=energy")
    assert browser.run("document.querySelector('input[name=quality]').value") == "0.1"
    assert browser.run("document.querySelector('input[name=undisturbed]').checked") is False
    assert browser.run("document.querySelector('select[name=prefer]').value") == "energy"
    assert browser.run(KEPT) == 2
    browser.run("document.querySelector('button[type=reset]').click()")
    browser.wait("location.hash === ''")


@pytest.mark.parametrize(
    "behind", ["quality=%", "nothing=1", "9.quality=1", "prefer=<script>", "=", "quality", "latency.x=3", "hide=maybe"]
)
def test_an_address_that_was_damaged_changes_nothing(browser, pages, behind):
    browser.open(pages / "full_build.html", behind=behind)
    assert browser.errors == []
    assert browser.run(KEPT) == 8


# --- plots follow the limits ------------------------------------------------------------------------------------------


def test_the_front_is_of_the_rows_that_are_left(full):
    corners = "document.querySelector('svg .front').getAttribute('d').split(/[HM]/).length - 1"
    entries, _ = entries_of(made_up.full_build())
    kept = [e for e in entries if latency_of(e) and not e.disturbed]
    wanted = pareto([(latency_of(e)[0], e.accuracy.value) for e in kept])
    assert full.run(corners) == len(wanted)
    full.run("document.querySelector('input[name=undisturbed]').click()")
    wanted = pareto([(latency_of(e)[0], e.accuracy.value) for e in entries if latency_of(e)])
    assert full.run(corners) == len(wanted)


def test_bars_are_of_the_fastest_that_are_left(many):
    names = "[...document.querySelectorAll('ul.bars[data-key=speedup] .name')].map((n) => n.textContent)"
    entries, labelled = entries_of(made_up.many())
    many.type("input[name=find]", "fp16")
    fastest = sorted((latency_of(e)[0], i) for i, e in enumerate(entries) if e.precision == "fp16")[:16]
    assert many.run(names) == [labelled[i] for _, i in fastest]
    first = "document.querySelector('ul.bars[data-key=speedup] li')"
    entry = entries[fastest[0][1]]
    assert many.run(f"{first}.querySelector('.value').textContent") == units.ratio(entry.speedup)
    longest = max(max(entries[i].speedup, entries[i].speedup_ci95[1]) for _, i in fastest)
    width = many.run(f"parseFloat({first}.querySelector('.fill').style.width)")
    assert width == pytest.approx(100 * entry.speedup / longest, abs=0.01)


def test_curves_are_of_the_fastest_that_are_left_at_their_quantiles(many):
    many.type("input[name=find]", "device-03")
    entries, names = entries_of(made_up.many())
    fastest = sorted((latency_of(e)[0], i) for i, e in enumerate(entries) if e.target == "device-03")[:8]
    titles = "[...document.querySelectorAll('figure.curves g.curve title')].map((t) => t.textContent)"
    assert many.run(titles) == [names[i] for _, i in fastest]
    path = many.run("document.querySelector('figure.curves g.curve path').getAttribute('d')")
    places = [float(x) for x in re.findall(r"[ML]([\d.]+) ", path)]
    values = entries[fastest[0][1]].result.distribution_ns[::2]
    share = (places[25] - places[0]) / (places[-1] - places[0])
    wanted = math.log(values[25] / values[0]) / math.log(values[-1] / values[0])
    assert share == pytest.approx(wanted, abs=0.01)
    ticks = many.run("[...document.querySelectorAll('figure.curves text.x')].map((t) => Number(t.textContent))")
    assert ticks == sorted(ticks)
    assert len(ticks) >= 2


def test_layers_follow_the_recommendation_until_others_are_asked_for(full):
    shown = "[...document.querySelectorAll('.panel:not([hidden]) h4')].map((h) => h.textContent)"
    full.type("input[name=find]", "m-1000 int8")
    assert full.run(shown) == ["host-openvino int8 on Made-up M-1000"]
    full.type("input[name=find]", "m-1000 onnxruntime")
    assert full.run(shown) == ["host-onnxruntime int8 on Made-up M-1000"]
    full.run("document.querySelector('select.layers').selectedIndex = 0")
    set_value(full, "select.layers", "0", event="change")
    full.type("input[name=find]", "")
    assert full.run(shown) == ["host-openvino fp32 on Made-up M-1000"]


# --- several models ---------------------------------------------------------------------------------------------------


def test_the_overview_follows_and_limits_can_be_set_for_all_models(browser, pages):
    browser.open(pages / "models.html")
    takes = "[...document.querySelectorAll('.overview .take')].map((c) => c.textContent)"
    kept = "[...document.querySelectorAll('.overview .kept')].map((c) => c.textContent)"
    winners = "[...document.querySelectorAll('.winner')].map((c) => c.textContent)"
    assert browser.run(takes) == browser.run(winners)
    before = browser.run(kept)
    browser.type("form.limits input[name=find]", "fp32")
    assert browser.run(kept) == ["6 of 25", *before[1:]]
    browser.run("document.querySelector('button.everywhere').click()")
    assert browser.run(kept) == ["6 of 25"] * 3
    assert browser.run(takes) == browser.run(winners)
    assert browser.run("location.hash") == "#find=fp32&2.find=fp32&3.find=fp32"


# --- from a row to its reasons ----------------------------------------------------------------------------------------


def test_the_state_of_a_row_leads_to_why(page):
    page.run("document.querySelector('a.mark.failed').click()")
    page.wait("document.querySelector('details[open]') !== null")
    assert "operator Foo is unknown" in page.run("document.querySelector('details[open]').textContent")


def test_a_narrow_page_sorts_by_a_list(browser, pages):
    browser.open(pages / "labelled_build.html", width=390, mobile=True)
    assert browser.run("document.querySelector('.sorter').getClientRects().length") == 1
    browser.run("document.querySelector('.sorter select').selectedIndex = 5")
    chosen = browser.run("document.querySelector('.sorter select').selectedOptions[0].textContent")
    assert chosen == "p50, ms, rising"
    browser.run("document.querySelector('.sorter select').dispatchEvent(new Event('change', {bubbles: true}))")
    assert browser.run("document.querySelector('table.rows tbody tr').dataset.entry") == "1"


def part(browser, name, call):
    """Call a function of one part of the script, which are not global in the page."""
    text = (Path(html.__file__).parent / "script" / f"{name}.js").read_text(encoding="utf-8")
    return browser.run(f"(() => {{ {text}\nreturn {call}; }})()")


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ("[]", True),
        ("[['latency', 6], ['size', 12]]", True),
        ("[['latency', 6], ['size', 9]]", False),
        ("[['size', 12], ['latency', 4]]", False),
        ("[['agreement', 0.9], ['latency', 6]]", True),
        ("[['latency', 6], ['agreement', 0.99]]", False),
        ("[['latency', 6], ['energy', 1]]", False),
    ],
)
def test_a_row_is_kept_when_it_keeps_every_limit(page, limits, kept):
    row = "{latency: [5, 4, 6], size: [10, 10, 10], agreement: [0.95, 0.9, 0.97], find: ''}"
    assert part(page, "limits", f"keeps({row}, {limits}, new Set(['agreement']), false, [])") is kept


@pytest.mark.parametrize(("key", "best"), [("latency", 1), ("agreement", 2), ("size", 0)])
def test_less_is_better_but_of_agreement_more_is(page, key, best):
    row = "{good: true, latency: [%g], agreement: [%g], size: [%g]}"
    rows = ", ".join(row % values for values in ((5, 0.9, 1), (4, 0.8, 3), (6, 0.99, 2), (1, 1, 0.5)))
    kept = "[true, true, true, false]"
    assert part(page, "answer", f"chooseBest([{rows}], {kept}, '{key}', new Set(['agreement']))") == best
