"""Says what a file, a folder or a name is that no framework takes, and the command that works.

Looks inside as far as that is safe: headers, names of archives, and the opcodes of a pickle, which is never loaded.
"""

from __future__ import annotations

import io
import itertools
import json
import pickletools
import re
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST_BYTES = 16 << 20  # of a header or a pickle's opcodes
_MOST_OPCODES = 200_000
_MOST_PICKLES = 4
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WEIGHTS_ONLY = (
    "write my_model.py with: def make(): model = Net(); model.load_state_dict({load}); return model; "
    "then edgepack build my_model.py:make"
)


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
        if path.is_file():
            return _file(path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, RuntimeError):
        return None  # damaged, or not what it looks like
    if _HUB_NAME.fullmatch(source) and not path.parent.exists():
        return Foreign("no file here; it looks like the name of a model on the Hugging Face hub", _exported_by(source))
    return None


def _file(path: Path) -> Foreign | None:
    with path.open("rb") as file:
        begin = file.read(8)
    if begin[:4] == b"PK\x03\x04":
        return _archive(path)
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path, int.from_bytes(begin, "little"))
    if begin[:1] == b"\x80":
        with path.open("rb") as file:
            return _pickle(path, file.read(_MOST_BYTES))
    return None


def _archive(path: Path) -> Foreign | None:
    """Return what a zip of torch is: TorchScript has its code beside the pickle, what torch.save wrote has not."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any("/code/" in name for name in names) or any(name.endswith("/constants.pkl") for name in names):
            made = f"def make(): return torch.jit.load({str(path)!r})"
            return Foreign(
                "a TorchScript file", f"write my_model.py with: {made}; then edgepack build my_model.py:make"
            )
        data = next((name for name in names if name.endswith("/data.pkl")), None)
        if data is None:
            return None
        with archive.open(data) as file:
            return _pickle(path, file.read(_MOST_BYTES))


def _pickle(path: Path, data: bytes) -> Foreign:
    """Return what a pickle holds, by the names of classes in it."""
    classes = [
        name for name in _classes(data) if not name.startswith(("torch._utils", "torch.storage", "collections."))
    ]
    tensors = b"_rebuild_tensor" in data
    modules = [name for name in classes if not re.fullmatch(r"torch\.(\w*Storage|Size|device|\w*Tensor)", name)]
    if tensors and not modules:
        load = f"torch.load({str(path)!r}, weights_only=True)"
        return Foreign("a state dict: weights without the network", _WEIGHTS_ONLY.format(load=load))
    if tensors:
        made = f"def make(): return torch.load({str(path)!r}, weights_only=False)"
        hint = f"if you trust it, as loading it runs code in it, write my_model.py with: {made}"
        return Foreign(f"a pickled {modules[0]}", f"{hint}; then edgepack build my_model.py:make")
    what = f"a Python pickle of {modules[0]}" if modules else "a Python pickle without a network that is known"
    return Foreign(what, "export the model from the program that made it to .onnx")


def _classes(data: bytes) -> Iterator[str]:
    """Yield the names that a pickle would import, in their order; nothing is imported or built."""
    strings: list[str] = []
    for opcode, argument in itertools.islice(_opcodes(data), _MOST_OPCODES):
        if opcode.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _opcodes(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """Yield the opcodes of one pickle after the other: torch's older files begin with three about themselves."""
    file = io.BytesIO(data)
    for count in range(_MOST_PICKLES):
        try:
            for opcode, argument, _ in pickletools.genops(file):
                yield opcode, argument
        except ValueError:
            if count == 0:
                raise
            return  # what follows is no pickle but the tensors' own bytes


def _safetensors(path: Path, length: int) -> Foreign | None:
    if not 2 <= length <= _MOST_BYTES:
        return None
    with path.open("rb") as file:
        file.seek(8)
        header: dict[str, Any] = json.loads(file.read(length))
    count = sum(name != "__metadata__" for name in header)
    hint = _WEIGHTS_ONLY.format(load=f"safetensors.torch.load_file({str(path)!r})")
    if (path.parent / "config.json").is_file():
        hint = _exported_by(str(path.parent))
    return Foreign(f"weights without the network, {count} tensors", hint)


def _folder(path: Path) -> Foreign:
    models = sorted(found.name for found in path.glob("*.onnx"))
    if models:
        return Foreign(
            "a folder, not a model",
            f"give the .onnx file inside it: edgepack build {shlex.quote(str(path / models[0]))}",
        )
    if (path / "saved_model.pb").is_file():
        command = f"python -m tf2onnx.convert --saved-model {shlex.quote(str(path))} --output model.onnx"
        return Foreign("a TensorFlow SavedModel", f"{command}; then edgepack build model.onnx")
    config = path / "config.json"
    if config.is_file() and config.stat().st_size <= _MOST_BYTES:
        found = json.loads(config.read_bytes())
        if isinstance(found, dict) and ("model_type" in found or "architectures" in found):
            named = found.get("architectures")
            name = named[0] if isinstance(named, list) and named else found.get("model_type")
            return Foreign(f"a Hugging Face model ({name})", _exported_by(str(path)))
    return Foreign("a folder, not a model", "give a file; there is no .onnx file inside it")


def _exported_by(model: str) -> str:
    return (
        f"pip install 'optimum[onnx]'; optimum-cli export onnx --model {shlex.quote(model)} exported; "
        "then edgepack build exported/model.onnx"
    )
