"""External data of a model: where its files may be, and whether each holds what its tensors need."""

from __future__ import annotations

import math
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, NamedTuple

from edgepack.errors import ModelError
from edgepack.graph.walk import all_tensors, is_external

if TYPE_CHECKING:
    import onnx

# Bits of one element by onnx.TensorProto.DataType; 8 (string) is absent, as it has no fixed size.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_HINT = "keep the .onnx file and its data files together in one folder, as they were exported"


class Place(NamedTuple):
    """Where an external tensor's bytes are: the file relative to the model's folder, and the bytes in it."""

    location: str
    offset: int
    length: int


def external_files(proto: onnx.ModelProto, folder: Path, own: str = "") -> tuple[str, ...]:
    """Return the external data files of ``proto``, sorted, after checking all of them; ``own`` is the model's file.

    No file is opened. Raises ``ModelError`` when a location leaves ``folder``, or a file is missing or too short.
    """
    tensors = [tensor for tensor in all_tensors(proto) if is_external(tensor)]
    places = [(tensor, find_place(tensor)) for tensor in tensors]
    for location in sorted({place.location for _, place in places} - {own}):  # the user named that one, link or not
        _check_location(location, folder)
    sizes = {location: _size_bytes(folder, location) for location in {place.location for _, place in places}}
    for tensor, place in places:
        if place.offset + place.length > sizes[place.location]:
            raise ModelError(
                f"the external data file {place.location} is too short: the tensor {tensor.name!r} needs bytes "
                f"{place.offset} to {place.offset + place.length} of {sizes[place.location]}",
                hint=_HINT,
            )
    return tuple(sorted(set(sizes) - {own}))


def find_place(tensor: onnx.TensorProto) -> Place:
    """Return where an external tensor's bytes are, with the length that its shape and type need."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):  # one reader takes the first of two places, another the last
        raise ModelError(f"the external data of the tensor {tensor.name!r} is stated twice", hint=_HINT)
    location = entries.get("location", "")
    needed = tensor_bytes(tensor)
    offset, length = _number(entries, "offset", tensor.name), _number(entries, "length", tensor.name)
    if "length" in entries and length != needed:
        raise ModelError(
            f"the tensor {tensor.name!r} needs {needed} bytes by its shape and type, but {length} are stored",
            hint=_HINT,
        )
    return Place(location, offset, needed)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes that a tensor's shape and type need; types below 8 bits are packed.

    Raises ``ModelError`` for a negative dimension, or a type without a fixed size.
    """
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"the tensor {tensor.name!r} has a negative dimension: {list(tensor.dims)}")
    if tensor.data_type not in _BITS:
        raise ModelError(f"the tensor {tensor.name!r} has the data type {tensor.data_type}, which has no fixed size")
    return int((math.prod(tensor.dims) * _BITS[tensor.data_type] + 7) // 8)


def _check_location(location: str, folder: Path) -> None:
    parts = PurePosixPath(location).parts
    outside = (
        not parts
        or "\0" in location
        or "\\" in location
        or location.startswith("/")
        or PureWindowsPath(location).drive
        or ".." in parts
    )
    if outside:
        raise ModelError(
            f"the model's external data points outside its folder: {location!r}",
            hint="do not use this file unless you trust who made it; export the model again",
        )
    for depth in range(1, len(parts) + 1):
        path = folder.joinpath(*parts[:depth])
        if path.is_symlink():
            raise ModelError(
                f"the model's external data {location!r} is a symbolic link, which may point outside its folder",
                hint="copy the model and its data into a folder of their own: cp -rL FROM TO",
            )


def _size_bytes(folder: Path, location: str) -> int:
    try:
        status = (folder / location).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"the model keeps weights in {location!r}, a file of its own, which is missing in {folder}",
            hint=f"copy it there, under that name: {_HINT}",
        ) from None
    except OSError as error:
        raise ModelError(
            f"the model's external data file {location!r} in {folder} cannot be read: {error.strerror}",
            hint="check the file's name and its permissions",
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"the model's external data {location!r} in {folder} is not a regular file", hint=_HINT)
    return status.st_size


def _number(entries: dict[str, str], key: str, name: str) -> int:
    text = entries.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"the external data of the tensor {name!r} has the {key} {text[:40]!r}", hint=_HINT)
    return int(text)
