"""Leaves out a model's outputs that nobody asked for, and what computes only these."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.documents import suggestion
from edgepack.base.stage import stage
from edgepack.errors import ConfigError
from edgepack.graph import passes
from edgepack.graph.load import read_proto, save_proto
from edgepack.graph.walk import names_read
from edgepack.specs.model import OnnxModel

if TYPE_CHECKING:
    import onnx


@stage("outputs")
def keep_outputs(model: OnnxModel, names: tuple[str, ...], out: Path) -> OnnxModel:
    """Return ``model`` with the outputs ``names`` alone, in this order, as ``out/model.onnx``.

    Nodes and weights that only the others need go too. Raises ``ConfigError`` for names that the model does not have,
    or that come twice.
    """
    known = [spec.name for spec in model.outputs]
    for name in names:
        if name not in known:
            raise ConfigError(f"the model has no output {name[:80]!r}", hint=suggestion(name, known))
    if len(set(names)) != len(names):
        raise ConfigError("an output is named twice", hint="name each output once: " + ", ".join(known))
    proto = read_proto(model)
    values = {value.name: value for value in proto.graph.output}
    kept = [values[name] for name in names]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    _drop_unread(proto)
    return save_proto(proto, out)


def _drop_unread(proto: onnx.ModelProto) -> None:
    """Remove nodes of the main graph that no output needs, and initializers that nothing reads."""
    needed = {value.name for value in proto.graph.output}
    for index in reversed(range(len(proto.graph.node))):  # in the order of computation: readers come last
        node = proto.graph.node[index]
        if needed.isdisjoint(node.output):
            del proto.graph.node[index]
        else:
            needed.update(names_read(node))
    passes.drop_unused_initializers(proto)
    made = {name for node in proto.graph.node for name in node.output}
    values = proto.graph.value_info
    for index in reversed([i for i, value in enumerate(values) if value.name not in made]):
        del values[index]
