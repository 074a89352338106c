"""Takes an ONNX file as it is: checks it and copies it with its external data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import atomic_write
from edgepack.data.split import with_shapes
from edgepack.export import Framework
from edgepack.graph.load import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import OnnxModel, TensorSpec


def find_inputs(
    source: str, _samples: SampleSet | None, _shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[TensorSpec, ...]:
    """Return the inputs that the file states."""
    return load_model(Path(source)).inputs


def export(
    source: str, _samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path
) -> OnnxModel:
    """Copy the file as ``out/model.onnx``, and its external data under its own names, after checking all of it.

    Its shapes are its own; what the user says of them must fit, else ``ConfigError``.
    """
    model = load_model(Path(source))
    with_shapes(model.inputs, shapes)
    for name in model.external:
        _copy(model.path.parent / name, out / name)
    _copy(model.path, out / "model.onnx")
    return load_model(out / "model.onnx")


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reading, atomic_write(target) as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)


FRAMEWORK = Framework(
    title=".onnx",
    find_inputs=find_inputs,
    export=export,
    suffixes=(".onnx",),
    advice={
        ".pb": "give the SavedModel folder that it is in; a frozen graph: convert it with tf2onnx to .onnx",
    },
    uses_samples=False,
)
