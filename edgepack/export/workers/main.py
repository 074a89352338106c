"""Runs one worker: ``python main.py REQUEST.json``, in a folder of its own that it may write into.

The request names the worker's file, the source and what the user allows. The worker's ``convert(job)`` writes
``model.onnx``, ``pairs.npz`` and ``meta.json`` here, and ``pictures.npz`` where it tells how pictures are prepared;
where it cannot, ``error.json`` says why. Python 3.9 or newer.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose files must not stand in for packages; before anything else is imported

import importlib.util
import json
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MARK = "\x1eedgepack "


class Refused(Exception):  # noqa: N818  (an answer)
    """The source cannot be converted: what is said to the user, and what to do."""

    def __init__(self, message: str, hint: str, kind: str = "ModelError") -> None:
        super().__init__(message)
        self.hint = hint
        self.kind = kind


class Job:
    """What a worker gets: the source, the user's options, and where its answer goes."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.source: str = request["source"]
        self.shapes: dict[str, list[Any]] = request["shapes"]
        self.options: dict[str, Any] = request["options"]
        self.folder = Path.cwd()
        self.meta: dict[str, Any] = {"framework": "", "title": "", "versions": {}, "notes": []}
        self._pairs: dict[str, Any] = {}
        self._count = 0
        self._pictures: dict[str, Any] = {}

    @property
    def model(self) -> Path:
        """Where the ONNX model is to be written."""
        return self.folder / "model.onnx"

    @staticmethod
    def refuse(message: str, hint: str, kind: str = "ModelError") -> Refused:
        """Return what to raise when the source cannot be converted."""
        return Refused(message, hint, kind)

    @staticmethod
    def progress(what: str, done: int = 0, total: int = 0) -> None:
        """Tell how far the work is."""
        print(_MARK + json.dumps([what, done, total]), flush=True)

    @staticmethod
    def sibling(name: str) -> Any:
        """Return another file of this folder as a module."""
        return load(Path(__file__).with_name(f"{name}.py"))

    def shapes_of(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Return the shapes that the user gave by input; one without a name is that of the only input."""
        if "" in self.shapes and len(names) != 1:
            raise self.refuse(
                "--shape: the model has several inputs, and the shape does not name one",
                f"known: {', '.join(names)}",
                "ConfigError",
            )
        return {name or names[0]: shape for name, shape in self.shapes.items()}

    def describe(self, framework: str, title: str, *packages: str) -> None:
        """Say which framework the source is of, what it is, and whose versions count."""
        from importlib.metadata import version

        self.meta.update(framework=framework, title=title, versions={name: version(name) for name in packages})

    def note(self, text: str) -> None:
        """Say something of the conversion that the user should know."""
        self.meta["notes"].append(text)

    def pair(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Keep what the framework itself computed of ``inputs``, by the names in the ONNX model."""
        import numpy as np

        for kind, values in (("in", inputs), ("out", outputs)):
            for name, value in values.items():
                self._pairs[f"{self._count}/{kind}/{name}"] = np.asarray(value)
        self._count += 1

    def picture(self, picture: Any, prepared: Any) -> None:
        """Keep what the source's own code makes of a picture, uint8 [height, width, 3]: the model's input, no batch."""
        import numpy as np

        number = len(self._pictures) // 2
        self._pictures[f"{number}/in/picture"] = picture
        self._pictures[f"{number}/out/prepared"] = np.asarray(prepared, np.float32)

    def finish(self) -> None:
        """Write the pairs and what is known of the source."""
        import numpy as np

        np.savez(self.folder / "pairs.npz", **self._pairs)
        if self._pictures:
            np.savez(self.folder / "pictures.npz", **self._pictures)
        self.meta["python"] = ".".join(map(str, sys.version_info[:3]))
        (self.folder / "meta.json").write_text(json.dumps(self.meta))


def load(path: Path) -> Any:
    """Return a file as a module whose name no package has."""
    name = f"edgepack_worker_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(request: dict[str, Any]) -> None:
    """Confine this process, convert, and write the answer."""
    confine = load(Path(__file__).with_name("confine.py")).confine
    left = confine(Path.cwd(), network=bool(request["options"].get("download")))
    job = Job(request)
    job.meta["not_confined"] = left
    load(Path(request["worker"])).convert(job)
    job.finish()


def _explain(error: BaseException) -> dict[str, str]:
    if isinstance(error, Refused):
        return {"kind": error.kind, "message": str(error), "hint": error.hint}
    if isinstance(error, ModuleNotFoundError):
        return {
            "kind": "ToolchainError",
            "message": f"the Python package {error.name} is not installed for {sys.executable}",
            "hint": f"{sys.executable} -m pip install {str(error.name).partition('.')[0]}, or give another --python",
        }
    if isinstance(error, MemoryError):
        return {"kind": "EdgepackError", "message": "not enough memory to convert it", "hint": "stop other programs"}
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = " ".join(lines[:3])[:600]
    return {"kind": "ModelError", "message": f"{type(error).__name__}: {words}", "hint": ""}


def main() -> int:
    """Run the request named on the command line; return the exit status."""
    try:
        run(json.loads(Path(sys.argv[1]).read_text()))
    except BaseException as error:
        traceback.print_exc()
        Path("error.json").write_text(json.dumps(_explain(error)))
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # frameworks' own threads and destructors must not turn an answer into a crash
