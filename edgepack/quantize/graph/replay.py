"""Runs a graph piece by piece on many samples at once, so that a tensor can be changed before what comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.parallel import each
from edgepack.graph.walk import names_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array, Feeds


class Walk:
    """A walk through the main graph of ``proto`` in node order.

    ``live`` holds for each sample the tensors that nodes ahead still read; changing them changes what follows. Q/DQ are
    computed in float as written.
    """

    def __init__(self, proto: Any, feeds: Sequence[Feeds]) -> None:
        self.live: list[dict[str, Array]] = [dict(feed) for feed in feeds]
        self.largest_bytes = 0
        self._proto = proto
        self._nodes = list(proto.graph.node)
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._last_use = _last_uses(self._nodes)
        self._position = 0

    def places(self) -> dict[str, int]:
        """Return the position of every node by its name."""
        return {node.name: number for number, node in enumerate(self._nodes)}

    def go(self, end: int, keep: str) -> None:
        """Run the nodes up to ``end`` (included) on every sample; the tensor ``keep`` stays live in any case."""
        nodes = self._nodes[self._position : end + 1]
        self._position = end + 1
        if not nodes:
            return
        made = {name for node in nodes for name in node.output if name}
        wanted = sorted(name for name in made if name == keep or self._last_use.get(name, -1) > end)
        run, read = self._session(nodes, made, wanted)

        def step(values: dict[str, Array]) -> None:
            found = run(wanted, {name: values[name] for name in read})
            values.update(zip(wanted, found, strict=True))
            for name in [n for n in values if n != keep and self._last_use.get(n, -1) <= end]:
                del values[name]

        each(step, self.live)
        self.largest_bytes = max(self.largest_bytes, sum(v.nbytes for v in self.live[0].values()))

    def _session(self, nodes: list[Any], made: set[str], wanted: list[str]) -> tuple[Any, list[str]]:
        """Return ONNX Runtime's run of some nodes, and the names of the live tensors that they read."""
        import onnx
        import onnxruntime

        names = sorted({name for node in nodes for name in names_read(node)} - made)
        constants = [self._constants[name] for name in names if name in self._constants]
        read = [name for name in names if name in self.live[0]]
        graph = onnx.GraphProto(name="piece", node=nodes, initializer=constants)
        for name in read:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.live[0][name].dtype))
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
        for name in wanted:
            graph.output.add(name=name)
        piece = onnx.ModelProto(ir_version=self._proto.ir_version, graph=graph, functions=self._proto.functions)
        piece.opset_import.extend(self._proto.opset_import)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # between runs others compute
        options.intra_op_num_threads = 1  # samples run beside each other
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(piece.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run, read


def _last_uses(nodes: list[Any]) -> dict[str, int]:
    """Return for each tensor the position of the last node that reads it, inside control flow too."""
    return {name: number for number, node in enumerate(nodes) for name in names_read(node)}
