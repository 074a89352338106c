"""The source frameworks: what each module offers, and the dict of them.

A model is named by a path that ends in ``.onnx`` or ``.pt2``, or by ``module:callable`` or ``file.py:callable``. To add
a framework, add a module with the two functions of ``Framework`` and a line to ``FRAMEWORKS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from edgepack.base.documents import suggestion
from edgepack.base.stage import always, stage
from edgepack.base.user_functions import is_callable_reference
from edgepack.errors import ConfigError, ModelError
from edgepack.specs import OnnxModel, SampleSet, TensorSpec, UserSource

FRAMEWORKS = {
    ".onnx": "edgepack.export.onnx_file",
    ".pt2": "edgepack.export.torch_program",
    ":callable": "edgepack.export.torch_module",
}
_ADVICE = {
    ".pt": "write a file with a function that returns the module with its weights loaded: my_model.py:make",
    ".tflite": "convert it first: python -m tf2onnx.convert --tflite model.tflite --output model.onnx",
    ".py": "name the function in it that returns the module",
}
_ADVICE |= {".pth": _ADVICE[".pt"], ".ckpt": _ADVICE[".pt"], ".safetensors": _ADVICE[".pt"], ".bin": _ADVICE[".pt"]}
_ADVICE |= dict.fromkeys((".h5", ".keras", ".pb"), "convert it to ONNX first, with tf2onnx or keras' export")


class Framework(Protocol):
    """What every module of this package offers."""

    def find_inputs(
        self, source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]]
    ) -> tuple[TensorSpec, ...]:
        """Return the inputs that the exported model will have, without exporting it. Raises as ``export``."""
        ...

    def export(
        self, source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path
    ) -> OnnxModel:
        """Write ``out/model.onnx`` and return it. Raises ``ModelError``, ``ConfigError`` or ``ToolchainError``."""
        ...


@stage("export", tracks=always)
def export(
    source: UserSource, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path
) -> OnnxModel:
    """Return the model named by ``source`` as a checked ONNX model in the folder ``out``.

    A torch module is exported with the names of its forward's arguments and a free batch, and compared in ONNX Runtime
    with the module on ``samples`` (seeded random inputs without them). ``shapes`` gives inputs' shapes, with strings
    for free dimensions; it is not used for files, whose shapes are their own. Raises ``ModelError`` when the model
    cannot be used, ``ConfigError`` when its inputs are not known.
    """
    return _framework(source).export(source, samples, shapes, out)


def find_inputs(
    source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[TensorSpec, ...]:
    """Return the inputs that ``export`` with the same arguments will give the model."""
    return _framework(source).find_inputs(source, samples, shapes)


def _framework(source: str) -> Framework:
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in FRAMEWORKS:
        return cast("Framework", importlib.import_module(FRAMEWORKS[suffix]))
    if is_callable_reference(source):
        return cast("Framework", importlib.import_module(FRAMEWORKS[":callable"]))
    if path.is_dir():
        raise ModelError(f"{source} is a folder, not a model", hint="give the .onnx file inside it")
    if suffix in _ADVICE:
        raise ConfigError(f"{source} is not a model that edgepack reads", hint=_ADVICE[suffix])
    if not path.exists():
        near = suggestion(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise ModelError(f"there is no model {source}", hint=near if near.startswith("did") else "check the path")
    raise ConfigError(f"{source} is not a model that edgepack reads", hint="give .onnx, .pt2 or file.py:callable")
