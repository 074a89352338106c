"""Letters that a model's file notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from signal_models import reader

from edgepack.graph.load import load_model
from edgepack.pipeline.noted import with_letters
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
