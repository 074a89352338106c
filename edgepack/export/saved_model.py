"""Reads TensorFlow SavedModels, which are folders."""

from __future__ import annotations

from pathlib import Path

from edgepack.export import Framework
from edgepack.export.executes import side_effects
from edgepack.export.kinds import kind_of
from edgepack.export.worker import Worker


def takes(source: str) -> bool:
    """Say whether it is a folder with a SavedModel."""
    return kind_of(source) == "saved_model"


def executes(source: str) -> tuple[str, ...]:
    """Return the operators that reach outside the graph."""
    return tuple(f"the operator {name}" for name in side_effects(Path(source)))


FRAMEWORK = Framework(
    title="a SavedModel folder",
    form=takes,
    uses_samples=False,
    worker=Worker("saved_model", "tensorflow", needs=("tensorflow", "tf2onnx"), executes=executes),
)
