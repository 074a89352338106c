"""Loads damaged models one after another; prints one line for each, so that the parent knows where it crashed."""

from __future__ import annotations

import resource
import sys
import traceback
from pathlib import Path

import numpy as np
from mutations import damage_bytes, damage_structure, seeds

from edgepack.errors import ModelError
from edgepack.graph.load import load_model
from edgepack.graph.prepare import prepare

_MEMORY_BYTES = 6 << 30


def main(kind: str, start: int, end: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    damage = damage_bytes if kind == "bytes" else damage_structure
    models = seeds()
    for index in range(start, end):
        print(index, "started", flush=True)
        path = folder / "m.onnx"
        path.write_bytes(damage(models[index % len(models)], np.random.default_rng([7, index])))
        print(index, outcome(kind, path, folder), flush=True)


def outcome(kind: str, path: Path, folder: Path) -> str:
    """Return "error", "loaded", or "bug" with the last line of a traceback that a user would see."""
    try:
        loaded = load_model(path)
        if kind == "prepare":
            prepare(loaded, folder / "prepared")
    except ModelError as error:
        return "error" if error.message and error.hint else "bug: an error without words"
    except Exception:
        return "bug: " + traceback.format_exc().strip().replace("\n", " | ")[-400:]
    return "loaded"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
