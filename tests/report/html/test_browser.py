import importlib.util
import itertools
import json
import re
from pathlib import Path

import made_up
import numpy as np
import pytest
from browser import find_chromium
from PIL import Image

from edgepack.report.figures.plots import SHAPES
from edgepack.report.figures.roofline import BOUNDS
from edgepack.specs.build import BuildResult

pytestmark = [
    pytest.mark.long,
    pytest.mark.own,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed: apt-get install chromium"),
]

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
VISIBLE = "[...document.querySelectorAll('table.rows tbody tr')].filter((r) => r.getClientRects().length).length"
DIMMED = "document.querySelectorAll('table.rows tbody tr.out').length"


@pytest.fixture
def page(browser, pages):
    browser.open(pages / "labelled_build.html")
    return browser


@pytest.mark.parametrize("name", ["labelled_build", "unlabelled_build", "full_build", "many", "models"])
def test_it_loads_without_errors_and_asks_for_nothing(browser, pages, name):
    browser.open(pages / f"{name}.html")
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [(pages / f"{name}.html").as_uri()]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (900, False), (390, True), (320, True)])
@pytest.mark.parametrize("name", ["labelled_build", "full_build"])
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


@pytest.fixture(scope="module")
def axe():
    """Return axe-core's script. Its carrier is not imported: that would need Playwright, and we have a browser."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core is not here: pip install --no-deps axe-playwright-python==0.1.8, as make test does")
    return Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")


AXE = """axe.run(document).then((found) => [found.passes.find((p) => p.id === "color-contrast")?.nodes.length ?? 0,
  found.violations.map((v) => `${v.id} (${v.impact}), ${v.nodes.length} times: ${v.nodes[0].html.slice(0, 160)}`)])"""


PAGES = ("labelled_build", "unlabelled_build", "full_build", "models", "unmeasured", "changed")
VIEWS = [
    *((name, 1400, False, False) for name in PAGES),
    *((name, 1400, False, True) for name in ("full_build", "changed")),
    *((name, 390, True, dark) for name in ("full_build", "changed") for dark in (False, True)),
    pytest.param("many", 1400, False, False, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "width", "mobile", "dark"), VIEWS)
def test_axe_finds_nothing(browser, pages, axe, name, width, mobile, dark):
    """All rules of axe-core, not of WCAG's levels A and AA alone."""
    browser.open(pages / f"{name}.html", width=width, mobile=mobile, dark=dark)
    browser.run(axe + ";0")
    contrasts, violations = browser.run(AXE)
    assert violations == []
    assert contrasts > 50, "axe could not judge the colours"


def test_axe_would_find_something(page, axe):
    page.run(axe + ";0")
    page.run("document.querySelector('.subtitle').style.color = '#ccc'; document.querySelector('h1').remove()")
    found = " ".join(page.run(AXE)[1])
    assert "color-contrast (serious)" in found
    assert "page-has-heading-one" in found


SVG_CONTRAST = """(() => {
  const channels = (c) => c.match(/[\\d.]+/g).map(Number);
  const luminance = (c) => channels(c).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll("figure svg text")].map((t) => {
    const card = getComputedStyle(t.closest("figure")).backgroundColor;
    const [a, b] = [luminance(getComputedStyle(t).fill), luminance(card)];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), t.textContent];
  });
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_texts_of_plots_have_that_contrast_too(page, pages, dark):
    """Our own check: axe cannot judge text in SVG. Those of what is outside the limits are among them."""
    page.open(pages / "full_build.html", dark=dark)
    page.type("input[name=quality]", "0.001")
    found = page.run(SVG_CONTRAST)
    assert len(found) > 20
    assert min(found)[0] >= 4.5, min(found)


@pytest.mark.parametrize("dark", [False, True])
def test_rows_outside_the_limits_can_still_be_read(page, pages, dark):
    page.open(pages / "full_build.html", dark=dark)
    page.type("input[name=quality]", "0.001")
    assert page.run(DIMMED) > 2
    ratio, where = page.run(CONTRAST)
    assert ratio >= 4.5, where
    faded = "[...document.querySelectorAll('tr.out *, .legend .out, .bars .out .name, .bars .out .value')]"
    assert page.run(f"{faded}.filter((e) => e.textContent.trim() && getComputedStyle(e).opacity !== '1').length") == 0


def test_the_page_works_in_a_frame_of_a_notebook(browser, pages, tmp_path):
    """In a sandbox without an address of its own; what it says of itself is seen from the picture of the frame."""
    rows = made_up.labelled_build()[1]
    built = BuildResult("net", rows, (), "out", str(pages / "labelled_build.html"), {}, 1, 0)
    shown = built._repr_html_().replace(
        "</iframe>", "</iframe><script>document.documentElement.dataset.ready='yes'</script>"
    )
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8>{shown}")
    browser.open(tmp_path / "notebook.html")
    assert browser.errors == []
    browser.wait(
        "new Promise((done) => setTimeout(() => done(document.querySelector('iframe').clientHeight > 700), 500))"
    )
    browser.screenshot(tmp_path / "notebook.png")
    with Image.open(tmp_path / "notebook.png") as picture:
        frame = np.asarray(picture.convert("L"))[-700:, 40:-40]
    assert (frame < 128).mean() > 0.01, "there is text in the frame"
    assert browser.errors == []


def test_paper_has_the_answer_the_devices_and_no_buttons(page):
    page.type("input[name=quality]", "0.1")
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        shown = "(kind) => [...document.querySelectorAll(kind)].filter((e) => e.getClientRects().length).length"
        assert page.run(f"({shown})('.winner')") == 1
        assert page.run(f"({shown})('.devices li')") == 4
        assert page.run(f"({shown})('.excluded span')") == 1
        assert page.run(f"({shown})('.anyway, .limits, .copy')") == 0
        assert "Limits: Accuracy drop \u2264 0.1 points" in page.run("document.querySelector('.under').textContent")
    finally:
        page.call("Emulation.setEmulatedMedia", media="")


def test_the_preset_and_the_button_that_drops_it_work_by_keyboard(page):
    page.type("input[name=quality]", "0.1")
    page.run("document.querySelector('button.anyway').focus()")
    assert page.run("document.activeElement.className") == "anyway"
    page.run("document.activeElement.click()")
    assert page.run(WINNER) == "host-openvino int8"
    page.run("document.querySelector('select.preset').focus()")
    assert page.run("document.activeElement.closest('label').textContent").startswith("Preset")


def test_points_tell_their_figures_to_pointer_and_keyboard(page):
    page.run("document.querySelector('g.point').focus()")
    assert page.run("document.querySelector('.tip').hidden") is False
    assert "host-openvino fp32: p90" in page.run("document.querySelector('.tip').textContent")
    page.run("document.activeElement.blur()")
    assert page.run("document.querySelector('.tip').hidden") is True


@pytest.mark.parametrize("name", ["full_build", "many"])
def test_a_plot_is_one_stop_of_the_keyboard_and_arrows_go_through_its_points(browser, pages, name):
    browser.open(pages / f"{name}.html")
    stops = "[...document.querySelectorAll('svg')].map((s) => s.querySelectorAll('g.point[tabindex=\"0\"]').length)"
    assert set(browser.run(stops)) <= {0, 1}
    browser.run("document.querySelector('svg g.point[tabindex=\"0\"]').focus()")
    place = "document.activeElement.getBoundingClientRect().left"
    browser.press("Home")
    assert "p90" in browser.run("document.activeElement.getAttribute('aria-label')")
    places = [browser.run(place)]
    for _ in range(4):
        browser.press("ArrowRight")
        places.append(browser.run(place))
    assert places == sorted(places)
    assert places[0] < places[-1]
    browser.press("End")
    assert browser.run(place) >= places[-1]
    assert browser.run("document.activeElement.classList.contains('out')") is False
    assert set(browser.run(stops)) <= {0, 1}


def test_every_control_can_be_reached_by_keyboard(page):
    reached = set()
    for _ in range(60):
        page.press("Tab")
        reached.add(page.run("(document.activeElement.name || document.activeElement.tagName.toLowerCase())"))
    wanted = {"latency", "quality", "size", "prefer", "find", "undisturbed", "hide", "button", "g", "summary", "a"}
    assert wanted <= reached


@pytest.mark.parametrize(("name", "rows"), [("labelled_build", 6), ("full_build", 11)])
@pytest.mark.parametrize(("width", "mobile"), [(1280, False), (390, True)])
def test_a_screen_reader_is_told_names_and_tables(browser, pages, name, rows, width, mobile):
    browser.open(pages / f"{name}.html", width=width, mobile=mobile)
    tree = browser.tree()
    controls = {"button", "textbox", "searchbox", "checkbox", "slider", "combobox", "link", "spinbutton"}
    assert [node for node in tree if node[0] in controls and not node[1].strip()] == []
    assert [node for node in tree if node[0] in ("table", "region", "form") and not node[1].strip()] == []
    tables = [title for role, title in tree if role == "table"]
    assert tables[0].startswith(f"resnet20: {rows} rows.")
    assert len([1 for role, _ in tree if role == "rowheader"]) >= rows
    assert ("columnheader", "p90 ms") in tree
    assert next(title for role, title in tree if role == "heading") == "resnet20"
    images = [title for role, title in tree if role == "image"]
    assert any("p90" in title for title in images)
    assert all(images)


# Vision of people without one of the three kinds of cones, on linear RGB, for severity 1: Machado, Oliveira, Fernandes,
# "A physiologically-based model for simulation of color vision deficiency" (IEEE TVCG 15, 2009), table 1.
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def lab(rgb, matrix):
    """CIELAB (D65) of an sRGB colour (0 to 255) as it is seen with that vision."""
    linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.array(rgb) / 255])
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))) @ linear
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / (0.9505, 1, 1.089))
    return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", BLINDNESS)
def test_colours_of_precisions_differ_for_colour_blind_readers(browser, pages, vision, dark):
    """By at least 10 in CIELAB, where 2.3 is just noticeable; besides, each precision has a shape of its own."""
    browser.open(pages / "many.html", dark=dark)
    colours = {}
    for precision in ("fp32", "fp16", "bf16", "int8"):
        seen = browser.run(f"getComputedStyle(document.querySelector('g.point.{precision}')).fill")
        colours[precision] = lab([int(v) for v in re.findall(r"\d+", seen)[:3]], BLINDNESS[vision])
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(colours[one] - colours[other]) >= 10, (one, other)


def test_precisions_and_bounds_have_shapes_of_their_own():
    assert len(set(SHAPES.values())) == len(SHAPES) == 4
    assert len({shape for shape, _ in BOUNDS.values()}) == len(BOUNDS) == 4


@pytest.mark.parametrize("dark", [False, True])
def test_print_is_light_without_controls_and_fits_a_page(browser, pages, dark):
    """A4 at 96 dots an inch is 794 wide; margins of 1 cm leave 718."""
    browser.open(pages / "full_build.html", width=718, dark=dark)
    features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert browser.run("getComputedStyle(document.querySelector('.limits')).display") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(WIDER) <= 0
    table = "document.querySelector('.table')"
    colour = browser.run("getComputedStyle(document.querySelector('.bars .fill')).printColorAdjust")
    assert colour == "exact", "bars are backgrounds, which browsers leave out on paper"
    assert browser.run("document.querySelector('.under').textContent") == (
        "Limits: Accuracy drop \u2264 1 points; only undisturbed measurements."
    )
    assert browser.run("document.querySelector('.under').getClientRects().length") == 1
    assert browser.run(f"{table}.scrollWidth - {table}.clientWidth") <= 0
    browser.call("Emulation.setEmulatedMedia", media="")


def test_five_hundred_rows_filter_in_one_layout(browser, pages):
    """Counts and no times, which depend on the machine: the times are measured and printed by ``make bench-report``."""
    browser.open(pages / "many.html")
    assert browser.run("document.querySelectorAll('table.rows tbody tr').length") == 500
    browser.call("Performance.enable")

    def count(name):
        return next(m["value"] for m in browser.call("Performance.getMetrics")["metrics"] if m["name"] == name)

    browser.run("document.querySelector('input[name=quality]').select()")
    browser.run("document.body.offsetHeight")
    before = {name: count(name) for name in ("LayoutCount", "RecalcStyleCount", "Nodes")}
    browser.run(
        "(() => { const i = document.querySelector('input[name=quality]'); i.value = '0.3';"
        " i.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight; })()"
    )
    assert count("LayoutCount") - before["LayoutCount"] <= 2
    assert count("RecalcStyleCount") - before["RecalcStyleCount"] <= 3
    kept = json.loads(browser.run("JSON.stringify(document.querySelector('output').textContent.match(/\\d+/g))"))
    assert 0 < int(kept[0]) < int(kept[1]) == 500
