"""Takes the pictures of README and docs again, of the demonstration and of one build in a terminal (``make pictures``).

Runs on a quiet machine only: a picture of disturbed figures is not written unless ``--disturbed`` is given. It needs
Chromium (apt-get install chromium), the fonts that the pictures are to have (apt-get install fonts-dejavu-core), and,
the first time, some minutes for the demonstration's stages, which are kept in artifacts/pictures.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from browser import Browser, find_chromium  # noqa: E402
from PIL import Image  # noqa: E402

from edgepack.demo.photos import write_photos  # noqa: E402
from edgepack.device.host import host_facts  # noqa: E402

PLACE = ROOT / "artifacts" / "pictures"
EDGEPACK = [sys.executable, "-m", "edgepack"]
COLUMNS, ROWS = 80, 60
SAMPLES = "pictures"
# What is typed in the picture of the terminal.
TYPED = f"edgepack build net.onnx -d {SAMPLES} -p fp32,int8 --recipe efficientnet-lite"
# Width, height, dark, phone; and how wide the picture becomes.
PAGES = {
    "report": (1280, 1080, False, False, 980),
    "report-dark": (1280, 988, True, False, 840),
    "light": (390, 980, False, True, 293),
    "dark": (390, 980, True, True, 293),
}
PAGE = """<!doctype html><html data-ready="yes"><meta charset="utf-8"><style>
body {{ margin: 0; background: #282828; color: #ececec; width: fit-content; }}
header {{ font: bold 15px "DejaVu Sans", sans-serif; text-align: center; padding: 9px; }}
pre {{ font: 16px/19.8px "DejaVu Sans Mono", monospace; margin: 0; padding: 0 8px 8px; width: {columns}ch; }}
</style><header>edgepack</header><pre>{text}</pre></html>"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, take the pictures, and print what the pages that show them must say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--disturbed", action="store_true", help="write pictures of disturbed figures too")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where to [docs]")
    chosen = parser.parse_args(arguments)
    if find_chromium() is None:
        print("no Chromium is installed: apt-get install chromium", file=sys.stderr)
        return 3
    prepare()
    run([*EDGEPACK, "demo", "--out", "demo"])
    said = in_terminal([*EDGEPACK, *shlex.split(TYPED)[1:]])
    found = {name: disturbances(PLACE / name) for name in ("demo", "artifacts/net")}
    disturbed = {name: why for name, why in found.items() if why}
    for name, why in disturbed.items():
        print(f"{name}: {why}", file=sys.stderr)
    if disturbed and not chosen.disturbed:
        print("no picture was taken: wait for a quiet machine, and run this again", file=sys.stderr)
        return 1
    take(said, chosen.out)
    host = host_facts()
    print(
        f"taken on {host.cpu}, {host.cores} cores, load {os.getloadavg()[0]:.1f}; dates and figures beside the pictures"
    )
    print("are in README.md, docs/quickstart.md and docs/report.md: write them again by hand, and look at each picture")
    return 0


def prepare() -> None:
    """Export the demonstration's network and write its pictures into one folder, where that is not done yet."""
    PLACE.mkdir(parents=True, exist_ok=True)
    if not (PLACE / "net.onnx").is_file():
        run([*EDGEPACK, "export", "edgepack.demo.photos:make_model", "-o", "net.onnx"])
    if not (PLACE / SAMPLES).is_dir():
        with tempfile.TemporaryDirectory(dir=PLACE) as folder:
            (write_photos(Path(folder)) / "evaluation").rename(PLACE / SAMPLES)


def environment() -> dict[str, str]:
    """Return what the programs run with: a store of their own, and a terminal of colours and 80 columns."""
    own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    return {**own, "EDGEPACK_STORE": str(PLACE / "store"), "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}


def run(words: Sequence[str]) -> None:
    """Run a program in the pictures' folder. Raises ``CalledProcessError``."""
    subprocess.run(words, cwd=PLACE, env=environment(), check=True)


def in_terminal(words: Sequence[str]) -> str:
    """Return what a program writes to a terminal, with its colours without what it overwrote. Raises ``OSError``."""
    ours, its = pty.openpty()
    try:
        program = subprocess.Popen(words, cwd=PLACE, env=environment(), stdin=its, stdout=its, stderr=its)
    finally:
        os.close(its)
    parts: list[bytes] = []
    try:
        while part := os.read(ours, 1 << 16):
            parts.append(part)
    except OSError:  # Linux says so where the other end was closed
        pass
    finally:
        os.close(ours)
    if program.wait():
        raise subprocess.CalledProcessError(program.returncode, list(words))
    return final_lines(b"".join(parts).decode("utf-8", "replace"))


def final_lines(text: str) -> str:
    """Return the lines of a terminal that stay: one that is begun again, or erased and written again, counts once."""
    text = re.sub(r"\x1b\[\?[0-9;]*[a-zA-Z]", "", text.replace("\r\n", "\n"))
    lines: list[str] = []
    for line in text.split("\n"):
        kept = ""
        for part in re.split(r"\r|\x1b\[[0-9]*G", line):
            pieces = re.split(r"\x1b\[[0-2]?K", part)
            kept = pieces[-1] or ("" if len(pieces) > 1 else kept)
            up = len(re.findall(r"\x1b\[1?A", kept))
            kept = re.sub(r"\x1b\[1?A", "", kept)
            if up:
                del lines[-up:]
        lines.append(kept)
    return "\n".join(lines).strip("\n")


def disturbances(out: Path) -> str:
    """Return why the latencies of a build do not count; empty where they do."""
    rows: list[dict[str, Any]] = json.loads((out / "build.json").read_text())["rows"]
    return "; ".join(dict.fromkeys(note for row in rows if (note := row["notes"].get("latency"))))


def take(said: str, out: Path) -> None:
    """Take all pictures and write them into ``out``."""
    with tempfile.TemporaryDirectory(prefix="edgepack-pictures-") as folder:
        browser, place = Browser(Path(folder) / "profile"), Path(folder)
        try:
            for name, view in PAGES.items():
                take_page(browser, PLACE / "demo" / "report.html", view).save(place / f"{name}.png")
            page = place / "terminal.html"
            page.write_text(PAGE.format(columns=COLUMNS, text=colored(f"$ {TYPED}\n{said}")), encoding="utf-8")
            browser.open(page, width=1000, height=900)
            box = browser.run("(({width, height}) => [width, height])(document.body.getBoundingClientRect())")
            shot(browser, box[0], box[1]).save(place / "terminal.png")
        finally:
            browser.close()
        side_by_side(Image.open(place / "light.png"), Image.open(place / "dark.png")).save(place / "report-phone.png")
        for name in ("report", "report-dark", "report-phone", "terminal"):
            Image.open(place / f"{name}.png").convert("RGB").quantize(256).save(out / f"{name}.png", optimize=True)
            print(f"wrote {out / f'{name}.png'}, {(out / f'{name}.png').stat().st_size / 1e3:.0f} kB")


def take_page(browser: Any, page: Path, view: tuple[int, int, bool, bool, int]) -> Image.Image:
    """Return the beginning of a page in a view."""
    width, height, dark, mobile, wide = view
    browser.open(page, width=width, height=height, dark=dark, mobile=mobile)
    image = shot(browser, width, height)
    return image.resize((wide, round(height * wide / width)), Image.Resampling.LANCZOS)


def shot(browser: Any, width: float, height: float) -> Image.Image:
    """Return what the page looks like from its beginning, twice as large where it is made smaller afterwards."""
    import io

    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    data = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two pictures of a height in one, with a gap."""
    both = Image.new("RGB", (left.width + right.width + 7, left.height), "#888888")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 7, 0))
    return both


# The styles that edgepack's own lines have, as SGR numbers.
_STYLES = {
    "1": "font-weight:bold", "2": "color:#999999", "31": "color:#ff6b6b", "32": "color:#a6c34c", "33": "color:#e5b567",
    "36": "color:#7fc1ca",
}  # fmt: skip


def colored(text: str) -> str:
    """Return a terminal's text as HTML: bold, dim and the colours that edgepack uses; other codes are left out."""
    parts: list[str] = []
    styles: list[str] = []
    for piece in re.split(r"(\x1b\[[0-9;]*[a-zA-Z])", text):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", piece)
        if code:
            numbers = code[1].split(";")
            styles = [*([] if numbers[0] in ("", "0") else styles), *(_STYLES[n] for n in numbers if n in _STYLES)]
        elif not piece.startswith("\x1b"):
            shown = html.escape(piece)
            parts.append(f'<span style="{";".join(styles)}">{shown}</span>' if styles and piece else shown)
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main())
