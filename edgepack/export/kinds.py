"""Says of which kind a model's file or folder is by what is in it; its suffix may lie. Nothing is loaded."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_JSON = 16 << 20
_HEAD = 4096

# Of each kind: what to call it, and the suffixes that it usually has.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pickle": ("a Python pickle", (".pkl", ".pickle", ".joblib")),
    "keras": ("a Keras 3 file", (".keras",)),
    "h5": ("an HDF5 file of Keras", (".h5", ".hdf5")),
    "tflite": ("a TensorFlow Lite file", (".tflite",)),
    "saved_model": ("a TensorFlow SavedModel", ()),
    "hugging_face": ("a Hugging Face model", ()),
    "timm": ("a timm model", ()),
    "torch": ("a file of torch.save", (".pt", ".pth", ".bin", ".ckpt", ".pkl")),  # .pkl is fastai's
    "torchscript": ("a TorchScript file", (".pt", ".pth", ".ts")),
    "torch_program": ("a program of torch.export.save", (".pt2",)),
    "safetensors": ("a safetensors file", (".safetensors",)),
    "flax": ("a file of flax.serialization", (".msgpack",)),
    "orbax": ("an Orbax checkpoint", ()),
    "xgboost": ("an XGBoost model", (".json", ".ubj")),
    "lightgbm": ("a LightGBM model", (".txt",)),
    "onnx": ("an ONNX file", (".onnx",)),
}


def kind_of(source: str) -> str | None:
    """Return the kind of what is at ``source``; None where there is nothing, or nothing known."""
    path = Path(source)
    try:
        if path.is_dir():
            return _folder(path)
        return _file(path) if path.is_file() else None
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, RuntimeError):
        return None  # damaged, or not what it looks like


def lie(source: str) -> tuple[str, str] | None:
    """Return what a file is by its contents and a suffix that says so, where its own says something else."""
    kind, suffix = kind_of(source), Path(source).suffix.lower()
    if kind is None or not KINDS[kind][1] or suffix in KINDS[kind][1]:
        return None
    known = {s for _, suffixes in KINDS.values() for s in suffixes} - {".json", ".txt"}
    return (KINDS[kind][0], KINDS[kind][1][0]) if suffix in known else None


def unknown(source: str) -> str | None:
    """Return what a file's suffix says it is, where nothing in it is known: it is damaged, or something else."""
    path = Path(source)
    if not path.is_file() or kind_of(source) is not None:
        return None
    suffix = path.suffix.lower()
    # An ONNX file and a program of torch are looked into by their own readers, which know more.
    named = [what for kind, (what, s) in KINDS.items() if suffix in s and kind not in ("onnx", "torch_program")]
    return named[0] if named else None


def is_keras2(path: Path) -> bool:
    """Say whether Keras 2 wrote a .keras file, by what its metadata.json says."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as file:
            found = json.loads(file.read(_MOST_JSON))
    except (OSError, KeyError, ValueError, RuntimeError, RecursionError, zipfile.BadZipFile):
        return False
    return isinstance(found, dict) and str(found.get("keras_version")).startswith("2.")


def optimized_layers(path: Path) -> tuple[str, ...]:
    """Return the layers of the TensorFlow Model Optimization Toolkit that a Keras file has, by their classes."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
                text = file.read(_MOST_JSON)
        else:
            with path.open("rb") as plain:  # HDF5 keeps the configuration as text, in front of the weights or behind
                text = b"".join(_tails(plain, path.stat().st_size))
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile):
        return ()
    found = re.findall(
        rb'"class_name": ?"(?:[\w.]+>)?(PruneLowMagnitude|ClusterWeights|Quantize(?:Layer|Wrapper\w*))"', text
    )
    return tuple(sorted({name.decode() for name in found}))


def _tails(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the first and the last megabytes of a file."""
    yield file.read(_MOST_JSON)
    if size > 2 * _MOST_JSON:
        file.seek(size - _MOST_JSON)
    yield file.read(_MOST_JSON)


def _folder(path: Path) -> str | None:
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    if _is_orbax(path):
        return "orbax"
    config = path / "config.json"
    if not config.is_file() or config.stat().st_size > _MOST_JSON:
        return None
    found = json.loads(config.read_bytes())
    if not isinstance(found, dict):
        return None
    if "model_type" in found or "architectures" in found:
        return "hugging_face"
    return "timm" if isinstance(found.get("architecture"), str) and "pretrained_cfg" in found else None


def _is_orbax(path: Path) -> bool:
    """Say whether a folder is one step that Orbax wrote, or a CheckpointManager's folder of steps."""
    steps = [entry for entry in path.iterdir() if entry.name.isdigit() and entry.is_dir()]
    return any((folder / "_CHECKPOINT_METADATA").is_file() for folder in (path, *steps))


def _file(path: Path) -> str | None:
    with path.open("rb") as file:
        begin = file.read(_HEAD)
    if begin[:4] == b"PK\x03\x04":
        return _archive(path)
    if begin[4:8] == b"TFL3":
        return "tflite"
    if begin[:8] == b"\x89HDF\r\n\x1a\n":
        return "h5"
    if begin[:5] == b"tree\n":
        return "lightgbm"
    if path.suffix.lower() == ".msgpack" and _is_message(begin):
        return "flax"
    if begin[:1] == b"\x80" or _is_compressed_pickle(path, begin):
        return "torch" if b"torch" in begin[:200] or b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in begin[:40] else "pickle"
    if _is_safetensors(begin, path.stat().st_size):
        return "safetensors"
    if re.match(rb'\{L?.{0,16}?"?learner"?', begin, re.DOTALL) and b"learner" in begin[:64]:
        return "xgboost"
    return "onnx" if path.suffix.lower() != ".onnx" and _is_onnx(begin) else None


def _is_compressed_pickle(path: Path, begin: bytes) -> bool:
    """Say whether it may be one of joblib, compressed: then only the suffix tells."""
    return path.suffix.lower() == ".joblib" or (path.suffix.lower() == ".pkl" and begin[:1] == b"\x78")


def _is_safetensors(begin: bytes, size: int) -> bool:
    length = int.from_bytes(begin[:8], "little")
    return begin[8:9] == b"{" and 2 <= length <= min(size, 100 << 20)


def _is_message(begin: bytes) -> bool:
    """Say whether it begins as MessagePack does for a dictionary with names as keys (its specification, "Formats")."""
    if begin == b"\x80":  # one without entries, which a pickle begins with, too
        return True
    head = 1 if begin[:1] and 0x81 <= begin[0] <= 0x8F else 3 if begin[:1] == b"\xde" else 0
    return bool(head) and len(begin) > head and (0xA1 <= begin[head] <= 0xBF or begin[head] == 0xD9)


def _is_onnx(begin: bytes) -> bool:
    """An ONNX file begins with its IR version (field 1), then the producer's name (2), the model's version or graph."""
    return len(begin) > 4 and begin[0] == 0x08 and begin[1] < 32 and begin[2] in (0x12, 0x1A, 0x22, 0x3A)


def _archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return "keras"
    if any(name.endswith("archive_format") for name in names) or any("/models/" in name for name in names):
        return "torch_program"
    if any("/code/" in name for name in names) or any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    return "torch" if any(name.endswith("data.pkl") for name in names) else None
