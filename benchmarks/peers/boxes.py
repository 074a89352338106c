"""Counts the boxes of fp32 that int8 detectors find again on other pictures: artifacts/boxes.md and boxes.json.

Run by ``make boxes``. Every network goes through ``edgepack build`` with its recipe, once for each effort. Calibration
and judged pictures are crops of different photographs. A box is found again when int8 shows one of the same class that
overlaps by half or more (``verify/found_again.py``); the aim is 97 %. A part: ``--models picodet --efforts low``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from models import ASSETS, MODELS, find_file, photographs

from edgepack.device.host import host_facts

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
RECIPES = ROOT / "calibration"
TARGETS = {"onnxruntime": "host-onnxruntime", "openvino": "host-openvino"}
EFFORTS = ("medium", "low")
CALIBRATED, JUDGED = 48, 96
_AIM = 0.97


@dataclass(frozen=True)
class Detector:
    """``recipe``: a shipped one, in whose text ``changes`` (old, new) are made; ``words``: more of the command line."""

    recipe: str
    changes: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()


_NO_CLASSES = ('classes = "coco-80.txt"\n', "")
DETECTORS = {
    "picodet": Detector("picodet"),
    "yunet": Detector("yunet"),
    "fastestdet": Detector("fastestdet"),
    "yolox": Detector(
        "yolox", (("[640, 640]", "[416, 416]"), _NO_CLASSES, ("[task]", '[task]\nclasses = ["text"]'))
    ),
    "yolov8n": Detector("yolov8", (("[640, 640]", "[320, 320]"), _NO_CLASSES), ("--shape", "1x3x320x320")),
}  # fmt: skip


def main() -> int:
    """Build what is asked for, write and print the table; 1 when a row is below the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=list(DETECTORS), default=list(DETECTORS))
    parser.add_argument("--efforts", nargs="*", choices=["low", "medium", "high"], default=list(EFFORTS))
    parser.add_argument("--engines", nargs="*", choices=list(TARGETS), default=list(TARGETS))
    words = parser.parse_args()
    if not ASSETS.is_dir():
        print("no real models and pictures beside the checkout (../shared/assets)", file=sys.stderr)
        return 0
    folder = ARTIFACTS / "boxes"
    for part, count in (("calibration", CALIBRATED), ("evaluation", JUDGED)):
        make_pictures(folder / part, part, count)
    rows: list[dict[str, Any]] = []
    for name in words.models:
        for effort in words.efforts:
            rows += build(name, effort, words.engines, folder)
            keep(rows)
    print(table(rows))
    return 0 if all(row["again"] is not None and row["again"] >= _AIM for row in rows) else 1


def make_pictures(folder: Path, part: str, count: int) -> None:
    """Write crops of a part's photographs, every one first as it is, as PNG files."""
    if folder.is_dir() and len(list(folder.iterdir())) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([20261202, part == "calibration"])
    opened = photographs(part)
    for number in range(count):
        picture = opened[number % len(opened)]
        if number >= len(opened):
            width, height = (int(side * random.uniform(0.6, 1.0)) for side in picture.size)
            left = int(random.integers(0, picture.width - width + 1))
            top = int(random.integers(0, picture.height - height + 1))
            picture = picture.crop((left, top, left + width, top + height))
        picture.save(folder / f"{number:03}.png", compress_level=1)


def build(name: str, effort: str, engines: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Return a row for each engine of one ``edgepack build``."""
    detector, out = DETECTORS[name], folder / f"{name}-{effort}"
    recipe = write_recipe(detector, folder / f"{name}.toml")
    print(f"... {time.strftime('%H:%M:%S')} {name}, effort {effort}", file=sys.stderr, flush=True)
    command = [
        str(ROOT / ".venv" / "bin" / "edgepack"), "build", str(find_file(MODELS[name].file)), "--recipe", str(recipe),
        "--data", str(folder / "calibration"), "--eval", str(folder / "evaluation"), "--precision", "fp32,int8",
        "--target", ",".join(TARGETS[engine] for engine in engines), "--effort", effort, "--no-benchmark",
        "--allow-poor", "--metric", "sqnr", "--json", "--out", str(out), "--store", str(folder / "store"),
        *detector.words,
    ]  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout.strip():
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = [row for row in json.loads(done.stdout)["rows"] if row["precision"] == "int8"]
    return [describe(name, effort, row, cpu_s) for row in rows]


def write_recipe(detector: Detector, path: Path) -> Path:
    """Write the recipe with its changes; its list of classes is found beside it."""
    text = (RECIPES / f"{detector.recipe}.toml").read_text()
    for old, new in detector.changes:
        if text.count(old) != 1:
            raise SystemExit(f"{detector.recipe}.toml has not one {old!r}")
        text = text.replace(old, new)
    path.write_text(text)
    for classes in RECIPES.glob("*.txt"):
        (path.parent / classes.name).write_text(classes.read_text())
    return path


def describe(name: str, effort: str, row: dict[str, Any], cpu_s: float) -> dict[str, Any]:
    """Return what is kept of a row of build.json."""
    changed = row.get("change")
    return {
        "model": name,
        "effort": effort,
        "target": row["target"],
        "status": row["status"],
        "reason": row["reason"],
        "boxes": changed,
        "again": 1 - changed["changed"] / changed["n"] if changed else None,
        "balanced_db": row.get("balanced_sqnr_db"),
        "corrections": row.get("corrections"),
        "cpu_s": cpu_s,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg()[0],
    }


def keep(rows: list[dict[str, Any]]) -> None:
    """Put rows into artifacts/boxes.json in place of the same of an earlier run, and write the table of all."""
    path = ARTIFACTS / "boxes.json"
    old = json.loads(path.read_text())["rows"] if path.is_file() else []
    replaced = {_key(row) for row in rows}
    together = sorted([row for row in old if _key(row) not in replaced] + rows, key=_key)
    host = host_facts()
    facts = {"cpu": host.cpu, "isa": list(host.isa), "calibration": CALIBRATED, "evaluation": JUDGED}
    path.write_text(json.dumps({"where": facts, "rows": together}, indent=1))
    (ARTIFACTS / "boxes.md").write_text(table(together) + "\n")


def _key(row: dict[str, Any]) -> tuple[int, str, int]:
    return list(DETECTORS).index(row["model"]), row["target"], ["low", "medium", "high"].index(row["effort"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    lines = ["| network | engine | effort | boxes of fp32 | lost | below the score alone | found again | 95 % | dB |",
             "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in sorted(rows, key=_key):
        cells = [row["model"], row["target"].removeprefix("host-"), row["effort"]]
        if row["again"] is None:
            cells += [str(row["reason"] or row["status"]), "", "", "", "", ""]
        else:
            boxes = row["boxes"]
            low, high = (100 * (1 - share) for share in reversed(boxes["ci95"]))
            cells += [str(boxes["n"]), str(boxes["changed"]), str(boxes["unsure"]), f"{100 * row['again']:.1f} %",
                      f"{low:.1f} to {high:.1f}", f"{row['balanced_db']:.1f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
