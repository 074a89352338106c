"""The model with statistics in it: minima, maxima and sums reduced inside the graph, or the tensors as outputs.

Reducing inside costs less where only extremes are wanted: an activation is read while it is still in the cache, and
nothing leaves the engine but a few numbers. A histogram needs the values themselves; they are counted right away.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import DataError, ModelError
from edgepack.graph import wire
from edgepack.graph.captured import leave_out
from edgepack.graph.wire import read_named

if TYPE_CHECKING:
    import onnx

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Feeds

_REDUCTIONS = ("ReduceMin", "ReduceMax", "ReduceSum")
_OWN_PREFIX = "edgepack/statistics"


def reduced_names(measured: tuple[str, ...]) -> list[str]:
    """Return the outputs of the reductions: all minima, all maxima, all sums, each in the order of ``measured``."""
    return [f"{_OWN_PREFIX}/{kind}/{place}" for kind in _REDUCTIONS for place in range(len(measured))]


def open_session(
    model: OnnxModel,
    structure: onnx.ModelProto | None,
    measured: tuple[str, ...],
    *,
    reduce: bool,
    threads: int,
    scratch: Path,
) -> Any:
    """Return an ONNX Runtime session of ``model`` that can give the statistics of ``measured``, or the tensors.

    A protobuf message followed by another one of the same type is their union
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins), so nodes and outputs are added to a copy of the
    file without its weights being parsed here; outputs alone do not even take the package onnx, which a device does not
    have. ``structure`` is the model's (``tensors.read_structure``), in which small tensors are where ONNX's shape
    inference reads them; None where a model with external data is in ``scratch`` itself, and has them so. All of ONNX
    Runtime's optimizations are on, as when the model is run; a tensor that is an output, or reduced, is kept by them.
    Raises ``ModelError`` when ONNX Runtime refuses the model.
    """
    known = {spec.name for spec in model.outputs}
    added = _reductions(measured) if reduce else wire.outputs(name for name in measured if name not in known)
    return open_with(model, added, structure=structure, threads=threads, scratch=scratch)


def open_with(model: OnnxModel, added: bytes, *, structure: onnx.ModelProto | None, threads: int, scratch: Path) -> Any:
    """Return an ONNX Runtime session of ``model`` with what ``added``, a serialized model, holds besides.

    ``structure`` and what is raised are as ``open_session`` says.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Else the reductions, which stand last, run after all else, when their inputs have left the cache: 20 % more time.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    # Threads that spin between operators would burn the processor while this process counts.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    leave_out(options, read_named(model.path))
    path = scratch / ".statistics.onnx"  # no file of a job is named so
    source: str | bytes
    if model.external and structure is not None:
        folder = model.path.resolve().parent
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        source = structure.SerializeToString() + added
    else:
        _append(model.path, added, path)
        source = str(path)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise ModelError(
            f"ONNX Runtime cannot load {model.path.name}: {first_line(error)}",
            hint="check it with 'edgepack inspect MODEL', or export it again",
        ) from error
    finally:
        if isinstance(source, str):
            path.unlink(missing_ok=True)


def run_session(session: Any, names: list[str], feed: Feeds) -> list[Any]:
    """Return the outputs ``names`` of one sample. Raises ``DataError`` when ONNX Runtime cannot run the model on it."""
    try:
        outputs: list[Any] = session.run(names, feed)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise DataError(
            f"ONNX Runtime cannot run the model on a sample: {first_line(error)}",
            hint="its shape or values do not fit the model: compare it with the training data",
        ) from error
    return outputs


def first_line(error: BaseException) -> str:
    """Return what an engine said, without its stack."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _reductions(measured: tuple[str, ...]) -> bytes:
    """Return a message that holds only the reductions to add."""
    import onnx

    addition = onnx.ModelProto()
    names = iter(reduced_names(measured))
    for kind in _REDUCTIONS:
        for tensor in measured:
            name = next(names)
            addition.graph.node.append(onnx.helper.make_node(kind, [tensor], [name], name=name, keepdims=0))
            addition.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
    serialized: bytes = addition.SerializeToString()
    return serialized


def _append(model: Path, addition: bytes, path: Path) -> None:
    """Write the model's file and ``addition`` behind it."""
    import shutil

    from edgepack.base.files import storage_errors

    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, path)
        with path.open("ab") as file:
            file.write(addition)
