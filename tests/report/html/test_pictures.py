"""What pages look like, against golden pictures: ``pytest tests/report --update-golden`` takes them again.

The pictures are of half the size, so that the edges of letters matter little. They hold where texts are as wide as they
were where the pictures were taken: with other fonts every line breaks elsewhere, and the tests say so and skip.
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
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.font = getComputedStyle(document.body).font;
  return canvas.measureText("edgepack: which device, 0123456789 ms").width;
})()"""


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
