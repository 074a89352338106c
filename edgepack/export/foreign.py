"""Says what a folder or a name is that no framework takes, and the command that works."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Foreign:
    """What something is, as in "it is ...", and what to do with it."""

    what: str
    hint: str


def look_inside(source: str) -> Foreign | None:
    """Return what ``source`` is; None where nothing is known of it."""
    path = Path(source)
    try:
        if path.is_dir():
            return _folder(path)
    except OSError:
        return None
    if _HUB_NAME.fullmatch(source) and not path.exists() and not path.parent.exists():
        what = "no file here; it looks like the name of a model on the Hugging Face hub"
        return Foreign(what, f"edgepack build hf:{source} --download, which fetches it; or give a folder with it")
    return None


def _folder(path: Path) -> Foreign:
    models = sorted(found.name for found in path.glob("*.onnx"))
    if models:
        return Foreign(
            "a folder, not a model",
            f"give the .onnx file inside it: edgepack build {shlex.quote(str(path / models[0]))}",
        )
    hint = "give a file, or a folder with saved_model.pb, or with config.json and safetensors"
    return Foreign("a folder, not a model", hint)
