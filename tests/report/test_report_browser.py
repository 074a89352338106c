import json
import time

import made_up
import pytest
from browser import Browser, find_chromium

from edgepack.report.choice import Limits, choose
from edgepack.report.entries import labels, make_groups
from edgepack.report.page import write_report

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed: apt-get install chromium")

# Sums up what a reader sees that is wrong: things wider than the window, or texts that lie on each other.
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
OVERLAPS = """(() => {
  const texts = [...document.querySelectorAll("svg text")];
  const boxes = texts.map((t) => [t.textContent, t.getBoundingClientRect(), t.closest("svg")]);
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, b] = [boxes[i][1], boxes[j][1]];
    if (boxes[i][2] !== boxes[j][2]) continue;
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 2 && height > 3) found.push([boxes[i][0], boxes[j][0]]);
  }
  return found;
})()"""
CONTRAST = """(() => {
  const channels = (c) => c.match(/[\\d.]+/g).map(Number);
  const luminance = (c) => channels(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if (c.startsWith("rgb(")) return c; } return "rgb(255,255,255)"; };
  let least = 99, where = "";
  const kinds = "h1,h2,h3,p,dt,dd,td,th button,small,li,.name,.value,label,summary,code,.mark";
  for (const e of document.querySelectorAll(kinds)) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const [a, b] = [luminance(getComputedStyle(e).color), luminance(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) { least = ratio; where = e.className + " " + e.textContent.slice(0, 40); }
  }
  return [least, where];
})()"""
WINNER = "document.querySelector('.winner').textContent"
VISIBLE = "[...document.querySelectorAll('tbody tr')].filter((r) => r.getClientRects().length).length"
DIMMED = "document.querySelectorAll('tbody tr.out').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name in ("labelled_build", "unlabelled_build", "many"):
        write_report(*getattr(made_up, name)(), folder / f"{name}.html")
    return folder


@pytest.fixture
def page(browser, pages):
    browser.open(pages / "labelled_build.html")
    return browser


@pytest.mark.parametrize("name", ["labelled_build", "unlabelled_build", "many"])
def test_it_loads_without_errors_and_asks_for_nothing(browser, pages, name):
    browser.open(pages / f"{name}.html")
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [(pages / f"{name}.html").as_uri()]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (900, False), (390, True), (320, True)])
@pytest.mark.parametrize("name", ["labelled_build", "unlabelled_build"])
def test_nothing_overflows_or_overlaps(browser, pages, name, width, mobile, dark):
    browser.open(pages / f"{name}.html", width=width, mobile=mobile, dark=dark)
    assert browser.run(WIDER) <= 0
    assert browser.run(OVERLAPS) == []


@pytest.mark.parametrize("dark", [False, True])
def test_texts_have_the_contrast_that_wcag_asks_for(browser, pages, dark):
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text of ordinary size."""
    browser.open(pages / "unlabelled_build.html", dark=dark)
    ratio, where = browser.run(CONTRAST)
    assert ratio >= 4.5, where


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
    column = "[...document.querySelectorAll('tbody tr')].map((r) => r.children[2].dataset.order ?? null)"
    page.run("document.querySelectorAll('thead button')[2].click()")
    up = page.run(column)
    page.run("document.querySelectorAll('thead button')[2].click()")
    down = page.run(column)
    assert up[4:] == down[4:] == [None, None]
    assert [float(v) for v in up[:4]] == sorted(float(v) for v in up[:4])
    assert down[:4] == up[:4][::-1]


def test_points_tell_their_figures_to_pointer_and_keyboard(page):
    page.run("document.querySelector('g.point').focus()")
    assert page.run("document.querySelector('.tip').hidden") is False
    assert "host-openvino fp32: p90" in page.run("document.querySelector('.tip').textContent")
    page.run("document.activeElement.blur()")
    assert page.run("document.querySelector('.tip').hidden") is True


def test_every_control_can_be_reached_by_keyboard(page):
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.run("(document.activeElement.name || document.activeElement.tagName.toLowerCase())"))
    assert {"latency", "quality", "size", "undisturbed", "hide", "button", "g", "summary", "a"} <= reached


@pytest.mark.parametrize("dark", [False, True])
def test_print_is_light_without_controls_and_fits_a_page(browser, pages, dark):
    """A4 at 96 dots an inch is 794 wide; margins of 1 cm leave 718."""
    browser.open(pages / "labelled_build.html", width=718, dark=dark)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert browser.run("getComputedStyle(document.querySelector('.limits')).display") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(WIDER) <= 0
    table = "document.querySelector('.table')"
    assert browser.run(f"{table}.scrollWidth - {table}.clientWidth") <= 0
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_five_hundred_rows_filter_in_under_a_second(browser, pages):
    """CPU time of the page's own work, as the browser counts it, so that a busy machine does not fail it."""
    browser.open(pages / "many.html")
    browser.call("Performance.enable", timeDomain="threadTicks")

    def busy():
        metrics = {m["name"]: m["value"] for m in browser.call("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    before, began = busy(), time.monotonic()
    browser.type("input[name=quality]", "0.3")
    browser.run("document.body.offsetHeight")
    assert busy() - before < 1.0, f"{time.monotonic() - began:.2f} s of wall time"
    kept = json.loads(browser.run("JSON.stringify(document.querySelector('output').textContent.match(/\\d+/g))"))
    assert 0 < int(kept[0]) < int(kept[1])
