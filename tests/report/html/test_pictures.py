"""What pages look like, against golden pictures: ``pytest tests/report --update-golden`` takes them again.

The pictures are of half the size, so that the edges of letters matter little. They hold where texts are as wide as they
were where the pictures were taken: with other fonts every line breaks elsewhere, and the tests say so and skip. What no
font changes is compared everywhere: which blocks there are, where they begin and end from left to right, their colours.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from browser import find_chromium
from PIL import Image

pytestmark = [
    pytest.mark.long,
    pytest.mark.own,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed: apt-get install chromium"),
]

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# name: width of the window, height of the picture, whether it is a phone, dark, or paper
VIEWS = {
    "desk": (1280, 3300, False, False, ""),
    "dark": (1280, 1500, False, True, ""),
    "phone": (390, 2600, True, False, ""),
    "paper": (718, 1500, False, False, "print"),
}
# How many of the pixels may differ, by how much of 255: another Chromium rounds and smooths otherwise.
FEW, MUCH = 0.0015, 40
WIDTH = """(() => {
  const line = document.createElement("span");
  line.textContent = "edgepack: which device, 0123456789 ms";
  line.style.cssText = "position: absolute; white-space: pre; font-size: 15px";
  document.body.append(line);
  const found = line.getBoundingClientRect().width;
  line.remove();
  return found;
})()"""
# Of each block: what it is, left, width, colour of text and ground; of a bar, its share of the room for it in percent.
# Heights, and what a table gives its columns, depend on the font.
BLOCKS = """(() => {
  const found = [];
  for (const e of document.querySelectorAll("header, section, .pick, .limits, .stats, .devices, .standing, .table, "
      + ".figures, figure, .remarks, footer, .fill, svg:not(.swatch), h1")) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width || !box.height) continue;
    const name = e.tagName.toLowerCase() + "." + [...e.classList].join(".");
    const room = e.matches(".fill") ? e.parentElement.getBoundingClientRect() : null;
    const place = room ? [0, 100 * box.width / room.width] : [box.left, box.width];
    found.push([name, ...place.map(Math.round), style.color, style.backgroundColor]);
  }
  return found;
})()"""
NEAR = 16  # pixels, or percent of a bar's room: columns that share a row give way to the longest word in one


def alike(one, other):
    """Say whether blocks are the same, of the same colours, and begin and end where the others do."""
    return len(one) == len(other) and all(
        (a[0], a[3:]) == (b[0], b[3:]) and abs(a[1] - b[1]) <= NEAR and abs(a[2] - b[2]) <= NEAR
        for a, b in zip(one, other, strict=True)
    )


def picture(browser, view):
    """Return what a view of the page looks like now, half as large: uint8 [rows, columns, 3]."""
    width, height, _, _, _ = VIEWS[view]
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    data = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    return np.asarray(image.resize((width // 2, height // 2), Image.Resampling.BOX))


def difference(one, other):
    """Return which share of the pixels differs much in some colour."""
    assert one.shape == other.shape
    return float((np.abs(one.astype(int) - other.astype(int)).max(axis=2) > MUCH).mean())


@pytest.fixture
def view(browser, pages, request):
    width, _, mobile, dark, media = VIEWS[request.param]
    browser.open(pages / "full_build.html", width=width, mobile=mobile, dark=dark)
    if media:
        browser.call("Emulation.setEmulatedMedia", media=media)
    yield request.param
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_pages_look_as_they_did(browser, view, request):
    path, facts = GOLDEN / f"full_build.{view}.png", GOLDEN / "pictures.json"
    width, found = browser.run(WIDTH), picture(browser, view)
    if request.config.getoption("--update-golden", default=False):
        Image.fromarray(found).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        facts.write_text(json.dumps({"width_of_the_text": width}) + "\n")
    recorded = json.loads(facts.read_text())["width_of_the_text"]
    if abs(width - recorded) > 0.5:
        pytest.skip(
            f"the fonts here are others: a line is {width:.1f} wide, {recorded:.1f} where the pictures are from"
        )
    share = difference(found, np.asarray(Image.open(path).convert("RGB")))
    assert share <= FEW, f"{100 * share:.2f} % of {path.name} differs: look at the page, then --update-golden"


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_blocks_lie_as_they_did_whatever_the_font(browser, view, request):
    path = GOLDEN / f"full_build.{view}.json"
    found = browser.run(BLOCKS)
    if request.config.getoption("--update-golden", default=False):
        path.write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")
    assert alike(found, json.loads(path.read_text())), "look at the page, then --update-golden"
    width = browser.run(WIDTH)
    for spacing in ("-0.05em", "0.04em"):  # what a narrower font does to lines, and a wider one
        browser.run(f"document.body.style.letterSpacing = '{spacing}'")
        assert abs(browser.run(WIDTH) - width) > 0.05 * width
        assert alike(browser.run(BLOCKS), found), spacing


@pytest.mark.parametrize("view", ["desk"], indirect=True)
@pytest.mark.parametrize(
    "harm",
    [
        "document.querySelector('.figures figure').remove()",
        "document.querySelector('.stats').remove()",
        "document.documentElement.style.setProperty('--int8', '#00c8c8')",
        "document.querySelectorAll('.bars .fill').forEach((f) => f.style.width = '50%')",
        "document.querySelectorAll('table.rows tr').forEach((r) => r.style.lineHeight = '2')",
    ],
)
def test_a_change_that_a_reader_would_see_is_seen(browser, view, harm):
    before = picture(browser, view)
    assert difference(before, picture(browser, view)) == 0
    browser.run(f"(() => {{ {harm}; }})()")
    assert difference(before, picture(browser, view)) > FEW


@pytest.mark.parametrize("view", ["desk"], indirect=True)
@pytest.mark.parametrize(
    "harm",
    [
        "document.querySelector('.figures figure').remove()",
        "document.querySelector('.stats').remove()",
        "document.documentElement.style.setProperty('--int8', '#00c8c8')",
        "document.querySelectorAll('.bars .fill').forEach((f) => f.style.width = '50%')",
        "document.querySelector('.pick').style.marginLeft = '40px'",
    ],
)
def test_a_block_that_moved_is_seen_whatever_the_font(browser, view, harm):
    before = browser.run(BLOCKS)
    browser.run(f"(() => {{ {harm}; }})()")
    assert not alike(before, browser.run(BLOCKS))
