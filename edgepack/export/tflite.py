"""Reads TensorFlow Lite files, of floats and of integers."""

from __future__ import annotations

from edgepack.export import Framework
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is a TensorFlow Lite file by what is in it."""
    return kind_of(source) == "tflite"


FRAMEWORK = Framework(
    title=".tflite",
    suffixes=(".tflite",),
    form=takes,
    uses_samples=False,
    worker=Worker("tflite", "tensorflow", needs=("tensorflow", "tf2onnx")),
)
