"""Seeded models of one to six operators of every kind that an engine takes, with inputs to run them on.

Every operator is tried alone in ONNX Runtime as soon as it is drawn: what that refuses is left out of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import operator_draws  # noqa: F401 - its operators come into the table
import operator_draws_shape  # noqa: F401 - its operators come into the table
from onnx import helper, numpy_helper
from operator_draws_weights import FUSED
from operator_maker import OPERATORS, Array, Feeds, Maker, model_of, plain_session, type_of, value_info

BATCHES = (1, 2, 3)


@dataclass(frozen=True)
class OperatorModel:
    """A model, whether its batch is free, and what it is run on: each of ``feeds`` by a name that says what is in it.

    ``positive`` says that it is meant for numbers between 0 and 1.
    """

    seed: int
    proto: onnx.ModelProto
    free: bool
    positive: bool
    feeds: Mapping[str, Feeds]

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(node.op_type for node in self.proto.graph.node)


# --- whole models -----------------------------------------------------------------------------------------------------

_SHAPES = ((2, 4, 6, 6), (2, 3, 5, 7), (2, 8), (2, 4, 9), (2, 5, 6), (2, 2, 3, 4, 4), (2, 1, 1, 6))
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WHOLE_TYPES = (np.int64, np.int32, np.uint8)
# From this attempt on a second input has what the rarest operators read and others seldom make: integers of 8 bits with
# all axes of the first.
_HELPED = 60


def make(seed: int) -> OperatorModel:
    """Return the model of a seed; the first operators of the first seeds are all there are, one after another."""
    names = sorted(OPERATORS)
    for attempt in range(300):
        random = np.random.default_rng([seed, attempt])
        maker = Maker(random, int(random.integers(13, 22)) if attempt < 30 else 21)  # some are of the newest only
        first = names[seed % len(names)]
        fused = first.startswith(FUSED)  # these take sequences only
        shape = maker.pick([s for s in _SHAPES if len(s) == 3] if fused else _SHAPES)
        maker.positive = maker.chance(0.4)
        maker.values["x"] = floats(random, shape, positive=maker.positive)
        maker.newest = "x"
        if maker.chance(0.3):
            maker.values["k"] = random.integers(0, 5, shape[: maker.whole(1, 2)]).astype(maker.pick(_WHOLE_TYPES))
        if attempt >= _HELPED:
            maker.values["k"] = random.integers(0, 5, shape).astype(np.uint8)
        wanted = maker.whole(1, 6)
        done = _grown(maker, first, wanted, names)
        if done and (model := _finished(seed, maker)) is not None:
            return model
    raise ValueError(f"no model for seed {seed}, which begins with {first}")


def floats(random: np.random.Generator, shape: Sequence[int], *, positive: bool) -> Array:
    """Return numbers between 0 and 1, for which roots and logarithms are defined, or normal ones."""
    drawn = random.uniform(0.02, 0.98, shape) if positive else random.standard_normal(shape)
    return drawn.astype(np.float32)


def _grown(maker: Maker, first: str, wanted: int, names: Sequence[str]) -> bool:
    """Add the operator ``first``, after others that make its inputs if need be, and others around it."""
    before = 0 if maker.chance(0.5) else maker.whole(1, 3)
    if maker.chance(0.6):  # without one of these there is nothing to compute in int8
        before += any(OPERATORS[maker.pick(WEIGHTED)](maker) for _ in range(8))
    for _ in range(40):
        if len(maker.nodes) >= before and OPERATORS[first](maker):
            break
        OPERATORS[maker.pick(names)](maker)
        if len(maker.nodes) > 5:
            return False
    else:
        return False
    for _ in range(20):
        if len(maker.nodes) >= wanted:
            break
        OPERATORS[maker.pick(names)](maker)
    return True


def _finished(seed: int, maker: Maker) -> OperatorModel | None:
    """Return the model with all ends as outputs; None where ONNX does not take it whole."""
    read = {name for node in maker.nodes for name in node.input}
    inputs = [name for name in ("x", "k") if name in read]
    ends = [name for node in maker.nodes for name in node.output if name and name not in read]
    kept = [name for name in ends if maker.values[name].size and maker.values[name].dtype.kind in "fiub"]
    if not kept or not inputs:
        return None
    if maker.chance(0.2) and len(maker.nodes) > 1:  # what is read inside, and is an output as well
        kept = sorted({*kept, maker.nodes[0].output[0]})
    stored = [numpy_helper.from_array(array, n) for n, array in maker.constants.items() if n in read]
    for free in (True, False):
        graph = helper.make_graph(
            maker.nodes, "operators", [value_info(name, maker.values[name], free=free) for name in inputs],
            [helper.make_tensor_value_info(n, type_of(maker.values[n]), _untold_shape(maker, n)) for n in kept], stored,
            value_info=[
                helper.make_tensor_value_info(n, type_of(maker.values[n]), shape)
                for n in maker.values if n not in kept and (shape := _untold_shape(maker, n)) is not None
            ],
        )  # fmt: skip
        proto = model_of(graph, maker.opset)
        if not any(node.domain for node in maker.nodes):
            del proto.opset_import[1:]
        examples = {name: maker.values[name] for name in inputs}
        feeds = _feeds(maker, examples, free=free)
        try:
            proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
            onnx.checker.check_model(proto, full_check=True)
            session = plain_session(proto.SerializeToString())
            for some in feeds.values():
                session.run(None, some)
        except Exception:  # as above: one batch may fit, or none
            continue
        return OperatorModel(seed, proto, free, maker.positive, feeds)
    return None


def _untold_shape(maker: Maker, name: str) -> list[None] | None:
    """Return a shape of unknown sizes for what ONNX's shape inference says nothing of, so that ONNX takes the model."""
    untold = any(name in node.output for node in maker.nodes if node.op_type == "GroupNormalization")
    return [None] * maker.values[name].ndim if untold else None


def _feeds(maker: Maker, examples: Feeds, *, free: bool) -> dict[str, Feeds]:
    """Return inputs of several batches, and of extreme values."""
    random = maker.random

    def drawn(batch: int, change: Callable[[Array], Array] = lambda x: x) -> Feeds:
        made = {}
        for name, example in examples.items():
            shape = (batch if free else example.shape[0], *example.shape[1:])
            if example.dtype.kind == "f":
                made[name] = change(floats(random, shape, positive=maker.positive)).astype(np.float32)
            else:
                made[name] = random.integers(0, 5, shape).astype(example.dtype)
        return made

    def salted(x: Array) -> Array:
        x[random.random(x.shape) < 0.2] = np.inf
        x[random.random(x.shape) < 0.1] = -np.inf
        return x

    usual = {f"batch of {batch}": drawn(batch) for batch in (BATCHES if free else (2,))}
    return usual | {
        "zeros": drawn(2, np.zeros_like),
        "large": drawn(2, lambda x: x * 1e6),
        "huge": drawn(2, lambda x: x * 1e30),
        "tiny": drawn(2, lambda x: x * 1e-30),
        "ties": drawn(2, lambda x: np.round(x * 2) / 2),
        "infinite": drawn(2, salted),
    }


# --- parts of a model -------------------------------------------------------------------------------------------------


def with_all_values(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every tensor that a node makes as an output."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    known = {value.name for value in copy.graph.output}
    made = [name for node in copy.graph.node for name in node.output if name and name not in known]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in made)
    return copy


def one_node(model: OperatorModel, node: onnx.NodeProto, values: Feeds, inputs: str) -> OperatorModel:
    """Return a model of one node of a model that reads ``values``, which were made of those inputs of the model."""
    constants = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    read = [name for name in dict.fromkeys(node.input) if name and name not in constants]
    made = [name for name in node.output if name]
    graph = helper.make_graph(
        [node], "one", [value_info(name, values[name]) for name in read],
        [helper.make_tensor_value_info(n, type_of(values[n]), None) for n in made],
        [constants[name] for name in dict.fromkeys(node.input) if name in constants],
    )  # fmt: skip
    proto = onnx.shape_inference.infer_shapes(model_of(graph, model.proto.opset_import[0].version))
    if not node.domain:
        del proto.opset_import[1:]
    return OperatorModel(model.seed, proto, False, False, {inputs: {name: values[name] for name in read}})
