"""Letters that a model's file notes."""

from __future__ import annotations

from pathlib import Path

import onnx.parser
import pytest
from signal_models import reader

from edgepack.graph.load import load_model
from edgepack.pipeline.noted import with_activation, with_letters
from edgepack.specs.task import Task


@pytest.mark.parametrize(
    ("task", "letters", "classes"),
    [
        (Task("text-recognition"), "a\nb\n\u3000", ("a", "b", "\u3000")),
        (Task("text-recognition"), "a\r\nb\r\n", ("a", "b")),
        (Task("text-recognition", classes=("x",)), "a\nb", ("x",)),
        (Task("text-recognition", settings={"charset": "xy"}), "a\nb", ()),
        (Task("regression"), "a\nb", ()),
        (Task("text-recognition"), "", ()),
    ],
)
def test_letters_are_taken_where_nobody_named_them(tmp_path: Path, task: Task, letters: str, classes: tuple) -> None:
    model = load_model(reader(tmp_path / "m.onnx", [0.0, 0.5, 1.0], letters))
    found = with_letters(task, model)
    assert found is not None
    assert found.classes == classes
    assert with_letters(None, model) is None


@pytest.mark.parametrize(
    ("end", "task", "pictures", "settings"),
    [
        ("Sigmoid(x)", Task("audio-classification"), False, {"activation": "none"}),
        ("HardSigmoid(x)", Task("text-classification", settings={"top": 2}), False, {"top": 2, "activation": "none"}),
        (
            "Sigmoid(x)",
            Task("audio-classification", settings={"activation": "softmax"}),
            False,
            {"activation": "softmax"},
        ),
        ("Sigmoid(x)", Task("regression"), False, {}),
        ("Sigmoid(x)", None, True, {"activation": "none"}),
        ("Sigmoid(x)", None, False, None),
        ("Relu(x)", None, True, None),
        ("Relu(x)", Task("image-classification"), True, {}),
    ],
)
def test_what_a_sigmoid_gave_is_a_probability(
    end: str, task: Task | None, pictures: bool, settings: dict | None, tmp_path: Path
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,4] x) => (float[N,4] y) {{
        sure = {end}
        flat = Flatten(sure)
        y = Identity(flat)
    }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = with_activation(task, load_model(tmp_path / "m.onnx"), pictures=pictures)
    assert (None if found is None else dict(found.settings)) == settings
