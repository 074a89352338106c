"""Loads and checks an untrusted ONNX file, and reads and writes its protobuf message.

The weights are not read to check a model: see ``wire.py``. The C++ checkers of onnx run in this process, so a command
calls these functions in a child process (``edgepack.execution.child``), as every stage.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgepack.base.files import atomic_write, sha256_file, sha256_json, storage_errors
from edgepack.base.missing import nothing_at
from edgepack.errors import ModelError
from edgepack.graph import check, external, save, wire
from edgepack.graph.operators import check_operators, check_opsets, opsets
from edgepack.graph.walk import all_tensors, is_external
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    import onnx

# Above this, initializers go to a file of their own: a protobuf message cannot be larger than 2 GiB.
EXTERNAL_ABOVE_BYTES = 1 << 30
_PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
_HINT = "give a model exported to ONNX: see 'edgepack export --help'"


def load_model(path: Path) -> OnnxModel:
    """Return the model in ``path`` after checking all of it but the values of its weights.

    Checked: the file, its protobuf structure, external data (before any of it is read), operator sets, operators,
    names, types, inputs and outputs. ``inputs`` excludes initializers. ``sha256`` is the file's own, and with external
    data the digest of the file's and of every data file's name and sha256. Raises ``ModelError`` that says what is
    wrong.
    """
    path = Path(path)
    size = _check_file(path)
    proto = _parse_skeleton(path)
    check.check_structure(proto)
    files = external.external_files(proto, path.parent, own=path.name)
    check.check_sizes(all_tensors(proto))
    check_opsets(proto)
    check_operators(proto)
    inferred = check.check_graph(light_proto(proto, path))
    return OnnxModel(
        path=path,
        sha256=_digest(path, files),
        size_bytes=size + sum((path.parent / name).stat().st_size for name in files),
        opset=opsets(proto).get("", 1),
        inputs=check.input_specs(proto),
        outputs=check.output_specs(proto, inferred),
        external=files,
    )


def read_proto(model: OnnxModel, *, weights: bool = True) -> onnx.ModelProto:
    """Return the model's protobuf message, with all weights inside it.

    With ``weights`` False, large initializers stay in their files: they are external tensors, those stored inside the
    ``.onnx`` pointing into it, and ``read_tensor`` reads one of them. Raises ``ModelError`` when the files changed.
    """
    if not weights:
        return _parse_skeleton(model.path)
    # Filled tensor by tensor, so that the weights are held once.
    proto = _parse_skeleton(model.path)
    external.external_files(proto, model.path.parent, own=model.path.name)
    for tensor in all_tensors(proto):
        if is_external(tensor):
            _inline(tensor, model.path.parent)
    return proto


def read_tensor(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """Return ``tensor`` with its bytes inside it, read from ``folder`` when they are external."""
    import onnx

    if not is_external(tensor):
        return tensor
    result = onnx.TensorProto()
    result.CopyFrom(tensor)
    _inline(result, folder)
    return result


def save_proto(
    proto: onnx.ModelProto, out: Path, name: str = "model.onnx", *, external_data: bool = False, durable: bool = True
) -> OnnxModel:
    """Write ``proto``, whose weights must be inside it, as ``out/name`` and return it checked.

    The same message gives the same bytes. Above 1 GiB, or when asked with ``external_data``, the initializers go to
    ``out/name.data``, aligned to pages. A file that is not ``durable`` is not flushed to the disk, for scratch folders.
    Raises ``ModelError``, or ``StorageError`` on a full disk.
    """
    path = out / name
    out.mkdir(parents=True, exist_ok=True)
    opened = atomic_write if durable else _scratch_write
    data = path.with_name(name + ".data")
    if external_data or save.weight_bytes(proto) > EXTERNAL_ABOVE_BYTES:
        with opened(data) as file:
            proto = save.move_weights(proto, data.name, file)
    with opened(path) as file:
        save.write_model(proto, file)
    return load_model(path)


@contextmanager
def _scratch_write(path: Path) -> Iterator[IO[bytes]]:
    with storage_errors(path), path.open("wb") as file:
        yield file


def _check_file(path: Path) -> int:
    """Return the size of a file that may be an ONNX model."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            with path.open("rb"):
                pass
    except FileNotFoundError:
        message, hint = nothing_at(path, "check the path of the model")
        raise ModelError(message, hint=hint) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{path} is a folder, not an ONNX file", hint="give the .onnx file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} is not a regular file", hint=_HINT)
    if status.st_size == 0:
        raise ModelError(f"{path} is empty", hint="export or copy the model again")
    if status.st_size > _PROTOBUF_LIMIT_BYTES:
        raise ModelError(
            f"{path} has {status.st_size} bytes; one ONNX file cannot have more than 2 GiB",
            hint="export it with external data: torch.onnx.export(..., external_data=True)",
        )
    return status.st_size


def _parse_skeleton(path: Path) -> onnx.ModelProto:
    _check_file(path)
    try:
        data = wire.read_skeleton(path)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error.message}", hint=error.hint) from None
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is not an ONNX file, or is damaged: {error}", hint=_HINT) from None
    return proto


def light_proto(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Return a copy of a skeleton that needs no file, for onnx's checker and shape inference.

    External initializers of the main graph become inputs of the same type and shape; the others are read, as inner
    graphs cannot have inputs of their own.
    """
    result = save.without_weights(proto)
    for tensor in all_tensors(result):
        if is_external(tensor):
            _inline(tensor, path.parent)
    return result


def _inline(tensor: onnx.TensorProto, folder: Path) -> None:
    place = external.find_place(tensor)
    with (folder / place.location).open("rb") as file:
        file.seek(place.offset)
        data = file.read(place.length)
    if len(data) != place.length:
        raise ModelError(f"the file {place.location} became shorter while it was read")
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    tensor.raw_data = data


def _digest(path: Path, files: tuple[str, ...]) -> str:
    own = sha256_file(path)
    if not files:
        return own
    return sha256_json({"model": own, "external": {name: sha256_file(path.parent / name) for name in files}})
