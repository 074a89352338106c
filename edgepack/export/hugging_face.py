"""Reads Hugging Face folders with config.json and safetensors, and models of the hub by name (hf:OWNER/NAME)."""

from __future__ import annotations

import json
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.export import Framework
from edgepack.export.executes import remote_code
from edgepack.export.kinds import kind_of
from edgepack.export.quantized_elsewhere import refuse_hugging_face
from edgepack.export.worker import Worker
from edgepack.specs.source import SourceOptions

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json")


def takes(source: str) -> bool:
    """Say whether it is such a folder, or a name."""
    return source.startswith("hf:") or kind_of(source) == "hugging_face"


def executes(source: str) -> tuple[str, ...]:
    """Return the Python code that the folder's files name (trust_remote_code)."""
    return remote_code(Path(source)) if Path(source).is_dir() else ()


def prepares(source: str) -> bool:
    """Say whether the folder has an image processor."""
    return any((Path(source) / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))


def check(source: str, options: SourceOptions) -> None:
    """Raise ``ModelError`` for a folder without weights, and for weights of another quantizer."""
    refuse_hugging_face(source, options)
    folder = Path(source)
    if folder.is_dir() and not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        config = json.loads((folder / "config.json").read_bytes())
        name = next(iter(config.get("architectures") or ()), config.get("model_type"))
        raise ModelError(
            f"{source} is a Hugging Face model ({name}) without its weights",
            hint="put model.safetensors beside config.json, or give its name on the hub: hf:OWNER/NAME --download",
        )


FRAMEWORK = Framework(
    title="a Hugging Face folder",
    form=takes,
    uses_samples=False,
    prepares=prepares,
    worker=Worker(
        "hugging_face", "torch", needs=("torch", "onnxscript", "transformers"), executes=executes, check=check
    ),
)
