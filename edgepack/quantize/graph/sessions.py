"""Runs models that are held in memory by ONNX Runtime, with inner tensors as further outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from edgepack.base.files import scratch_folder
from edgepack.base.parallel import each

if TYPE_CHECKING:
    from edgepack.specs.types import Array, Feeds

T = TypeVar("T")
Session = Callable[["Feeds"], Mapping[str, "Array"]]

# What ONNX Runtime's optimizer would be ended by, or make something else of, has one of these.
_CHANGED = frozenset({"If", "Loop", "QuantizeLinear", "Scan"})
# A serialized message must stay below 2 GiB; larger ones go through a file with external data.
_IN_MEMORY_BYTES = 1 << 30
_BYTES_AT_ONCE = 256 << 20


def open_session(proto: Any, taps: list[str], *, optimized: bool = True, threads: int = 0) -> Session:
    """Return a function from inputs to the tensors named in ``taps``; a tap may be an input.

    Several threads may call it at once; each run has ``threads``, 0 for as many as there are cores.
    Without ``optimized``, Q/DQ are computed in float as written: what the integers stand for, on every host. ``proto``
    is left as it was.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between runs others compute
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif any(node.op_type in _CHANGED for node in proto.graph.node):
        proto = _as_written(proto)
    known = {value.name for value in proto.graph.output}
    inputs = {value.name for value in proto.graph.input}
    wanted = [name for name in taps if name not in inputs]
    added = [name for name in wanted if name not in known]
    for name in added:
        proto.graph.output.add(name=name)
    try:
        session = _load(proto, options)
    finally:
        if added:
            del proto.graph.output[-len(added) :]

    def run(feed: Feeds) -> Mapping[str, Array]:
        found = dict(zip(wanted, session.run(wanted, dict(feed)), strict=True)) if wanted else {}
        return {name: feed[name] if name in inputs else found[name] for name in taps}

    return run


def of_each_sample(session: Session, feeds: Iterable[Feeds], function: Callable[[Mapping[str, Array]], T]) -> list[T]:
    """Return ``function`` of the tensors of each sample, in order; as many are under way as fit into 256 MiB."""
    waiting = iter(feeds)
    values = session(next(waiting))
    most = max(1, _BYTES_AT_ONCE // max(sum(value.nbytes for value in values.values()), 1))
    return [function(values), *each(lambda feed: function(session(feed)), waiting, most=most)]


def _as_written(proto: Any) -> Any:
    """Return what ONNX Runtime's optimizer leaves as it is, a copy where something had to be put in."""
    from edgepack.graph.captured import keep_captured
    from edgepack.graph.float_layers import keep_float

    changed = type(proto)()
    changed.CopyFrom(proto)
    return changed if keep_captured(changed) + keep_float(changed) else proto


def _load(proto: Any, options: Any) -> Any:
    import onnxruntime

    from edgepack.base.files import storage_errors
    from edgepack.graph.save import move_weights, write_model

    providers = ["CPUExecutionProvider"]
    if proto.ByteSize() < _IN_MEMORY_BYTES:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
    # Not checked again as a model is that is loaded: a tap has no type, which ONNX Runtime infers.
    with scratch_folder() as folder:
        path = folder / "model.onnx"
        data = path.with_suffix(".data")
        with storage_errors(path), data.open("wb") as weights, path.open("wb") as file:
            write_model(move_weights(proto, data.name, weights), file)
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
