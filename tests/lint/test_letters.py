"""Readers of text, judged by letters: a network that reads white bars on black between 0 and 1 as letters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from inspections import one_finding
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.lint.letters import check
from edgepack.specs.data import Finding, Preprocessing
from edgepack.specs.task import Task

LETTERS = "abc"
SIDES = (4, 24)  # six moments of four columns


def judged(tmp_path: Path, made: Preprocessing, count: int = 8) -> tuple[Finding, int]:
    """Judge a network whose moments have the letter a, b or c where they are 0.3, 0.6 or 0.9 bright."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1,3,4,24] x) => (float[1,6,4] scores) {
            grey = ReduceMean<axes=[1, 2], keepdims=0>(x)
            moments = Reshape(grey, shape)
            bright = ReduceMean<axes=[2], keepdims=1>(moments)
            off = Sub(bright, levels)
            away = Abs(off)
            scores = Neg(away)
        }"""
    )
    for name, value in (("shape", np.array([1, 6, 4])), ("levels", np.array([0, 0.3, 0.6, 0.9], np.float32))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    (tmp_path / "data").mkdir()
    onnx.save(proto, tmp_path / "net.onnx")
    model = load_model(tmp_path / "net.onnx")
    random, rows = np.random.default_rng(0), ["file,label"]
    for i in range(count):
        word = random.integers(1, 4, 3)
        pixels = np.zeros((*SIDES, 3), np.uint8)
        for place, letter in enumerate(word):
            pixels[:, 8 * place : 8 * place + 4] = round(255 * 0.3 * letter)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{i}.png")
        rows.append(f"{i}.png,{''.join(LETTERS[letter - 1] for letter in word)}")
    (tmp_path / "data" / "labels.csv").write_text("\n".join(rows) + "\n")
    task = Task("text-recognition", settings={"charset": LETTERS})
    samples = find_samples(str(tmp_path / "data"), model.inputs, made, task=task)
    return one_finding(check, model, samples, tmp_path)


def test_a_reader_with_its_own_pixels_is_run_a_few_times(tmp_path: Path) -> None:
    found, runs = judged(tmp_path, Preprocessing(resize=SIDES, scale=1 / 255))
    assert (found.severity, runs) == ("note", 8)
    assert "share of right letters is 1.000 with RGB, / 255 (calibration samples, n=8)" in found.message


def test_pixels_of_another_range_are_proven_wrong(tmp_path: Path) -> None:
    found, _ = judged(tmp_path, Preprocessing(resize=SIDES))
    assert (found.severity, found.proven) == ("warning", True)
    assert "1.000 with RGB, / 255" in found.message


def test_nothing_is_judged_on_a_few_pictures(tmp_path: Path) -> None:
    assert judged(tmp_path, Preprocessing(resize=SIDES), 5)[0].check == "nothing"
