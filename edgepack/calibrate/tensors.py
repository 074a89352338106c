"""Which activations are observed, and which of them need not be measured because they follow from others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgepack.errors import ModelError
from edgepack.graph.external import tensor_bytes
from edgepack.graph.load import read_proto, read_tensor
from edgepack.graph.walk import has_bodies, is_external
from edgepack.graph.wire import INLINE_BYTES
from edgepack.specs.calibration import Derivation, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from edgepack.specs.model import OnnxModel

# What a quantizer may put Q/DQ around, for any engine: tensors that these operators read or write are observed.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "GRU", "LSTM", "RNN"})
ARITHMETIC = frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum", "Where"})
ACTIVATIONS = frozenset(
    {
        *(
            "Celu",
            "Clip",
            "Elu",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "LogSoftmax",
            "Mish",
            "PRelu",
            "Relu",
        ),
        *("Selu", "Sigmoid", "Softmax", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    }
)
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool", "ReduceMax", "ReduceMean"})
NORMS = frozenset(
    {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
)
MOVES = frozenset(
    {
        *(
            "Concat",
            "DepthToSpace",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "GatherND",
            "GridSample",
            "Identity",
        ),
        *("Pad", "Reshape", "Resize", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose"),
        *("Unsqueeze", "Upsample"),
    }
)
# ONNX Runtime's own (domain com.microsoft), which optimized models contain.
FUSED = frozenset(
    {
        "Attention",
        "BiasGelu",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "QuickGelu",
        "SkipLayerNormalization",
    }
)
OBSERVED = WEIGHTED | ARITHMETIC | ACTIVATIONS | POOLS | NORMS | MOVES | FUSED

# The output holds the same values as the first input, each as often.
_SAME_VALUES = frozenset(
    {"DepthToSpace", "Flatten", "Identity", "Reshape", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"}
)
_FLOAT = 1  # TensorProto.FLOAT of onnx.proto
_ACTIVATIONS_QUANTIZED = frozenset(
    {
        *("ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"),
        *("QAttention", "QGemm", "QLinearAdd", "QLinearMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    }
)


def read_structure(model: OnnxModel) -> onnx.ModelProto:
    """Return the model without its large weights, but with all small tensors: shapes are inferred from those."""
    proto = read_proto(model, weights=False)
    for tensor in proto.graph.initializer:
        if is_external(tensor) and tensor_bytes(tensor) <= INLINE_BYTES:
            tensor.CopyFrom(read_tensor(tensor, model.path.parent))
    return proto


def make_plan(proto: onnx.ModelProto) -> Plan:
    """Return which tensors of the main graph are observed and how.

    Tensors inside If, Loop and Scan are left out: no engine quantizes there. Raises ``ModelError`` for a model whose
    activations are quantized already, and for one without a float32 activation.
    """
    _refuse_quantized(proto)
    types = value_types(proto)
    constants = _constants(proto)
    observed = _observed(proto, types, constants)
    if not observed:
        raise _nothing_observed(proto)
    inputs = [value.name for value in proto.graph.input if value.name in observed]
    found: dict[str, Derivation] = {}
    for node in proto.graph.node:
        derivation = _derivation(node, observed, constants)
        if derivation is not None:
            found[derivation.tensor] = derivation
    measured = [name for name in observed if name not in found and name not in set(inputs)]
    sizes = [value_bytes(types[name]) for name in measured]
    return Plan(tuple(inputs), tuple(measured), tuple(found.values()), tuple(sizes))


def part_of_plan(plan: Plan, wanted: Callable[[str], bool]) -> Plan:
    """Return how the ``wanted`` tensors, and what they are derived from, get their statistics."""
    names = {name for name in (*plan.inputs, *plan.measured, *(d.tensor for d in plan.derived)) if wanted(name)}
    for derivation in reversed(plan.derived):  # whose sources come first
        if derivation.tensor in names:
            names.update(derivation.sources)
    sized = [(name, size) for name, size in zip(plan.measured, plan.sizes, strict=True) if name in names]
    return Plan(
        tuple(name for name in plan.inputs if name in names),
        tuple(name for name, _ in sized),
        tuple(derivation for derivation in plan.derived if derivation.tensor in names),
        tuple(size for _, size in sized),
    )


def _nothing_observed(proto: onnx.ModelProto) -> ModelError:
    """Return why a model has nothing to calibrate: where its work lies, if not in operators with float32 inputs."""
    trees = [node for node in proto.graph.node if node.domain == "ai.onnx.ml" and "Tree" in node.op_type]
    if trees:
        return ModelError(
            f"the model is made of decision trees ({trees[0].op_type} {_name_of(trees[0])}), which compare and do not "
            "multiply: there is nothing to compute in int8",
            hint="build it with --precision fp32",
        )
    linear = [node for node in proto.graph.node if node.domain == "ai.onnx.ml"]
    if linear:
        kinds = ", ".join(sorted({node.op_type for node in linear})[:3])
        return ModelError(
            f"the model is classical machine learning ({kinds}), which engines compute in float: there is nothing to "
            "compute in int8",
            hint="build it with --precision fp32: such a model is small and fast as it is",
        )
    inner = [node for node in proto.graph.node if has_bodies(node)]
    if inner:
        node = inner[0]
        fed = {value.name for value in proto.graph.input}
        decides = _decided_by(proto, node.input[0] if node.op_type == "If" and node.input else "", fed)
        way = f"--set {decides}=VALUE fixes the input that decides (samples leave it out), so that one branch remains"
        fix = f"{way}; or " if decides else ""
        return ModelError(
            f"the model's work lies within {node.op_type} {_name_of(node)}, where no engine computes in int8",
            hint=f"{fix}build it with --precision fp32",
        )
    return ModelError(
        "the model has no float32 activations to calibrate",
        hint="give the fp32 model: fp16 and integers need no ranges",
    )


def _decided_by(proto: onnx.ModelProto, name: str, fed: set[str]) -> str | None:
    """Return the only input of the model that a tensor is computed from; None where there are none or several."""
    producers = {out: node for node in proto.graph.node for out in node.output}
    found: set[str] = set()
    pending, seen = [name], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in fed:
            found.add(current)
        elif current in producers:
            pending += producers[current].input
    return found.pop() if len(found) == 1 else None


def _name_of(node: onnx.NodeProto) -> str:
    return str(node.name or next((name for name in node.output if name), ""))


def _refuse_quantized(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if node.op_type in _ACTIVATIONS_QUANTIZED:
            raise ModelError(
                f"the model is already quantized: it has {node.op_type} ({node.name or node.output[0]})",
                hint="give the model from before its quantization, or build with --precision as-is or --requantize",
            )


def value_types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Return the tensor type of every value of the main graph whose type is known."""
    import onnx

    values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    try:
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        values = [*inferred.value_info, *values]
    except Exception:  # an operator that inference does not know; what is written in the model remains
        pass
    return {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}


def _constants(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    return constants


def _observed(
    proto: onnx.ModelProto, types: dict[str, onnx.TypeProto.Tensor], constants: dict[str, onnx.TensorProto]
) -> dict[str, None]:
    """Return the observed tensors in the order of the graph."""
    made = {value.name for value in proto.graph.input}
    made.update(name for node in proto.graph.node if node.op_type != "Constant" for name in node.output)
    observed: dict[str, None] = {}
    for node in proto.graph.node:
        if node.op_type in OBSERVED:
            for name in (*node.input, *node.output):
                known = types.get(name)
                if known is not None and known.elem_type == _FLOAT and name in made and name not in constants:
                    observed[name] = None
    return observed


def _derivation(
    node: onnx.NodeProto, observed: dict[str, None], constants: dict[str, onnx.TensorProto]
) -> Derivation | None:
    """Return how the node's output follows from its inputs, or None when it must be measured."""
    sources = tuple(node.input) if node.op_type == "Concat" else tuple(node.input[:1])
    if node.domain not in ("", "ai.onnx") or not node.output or node.output[0] not in observed:
        return None
    if not sources or not all(name in observed for name in sources):
        return None
    if node.op_type in _SAME_VALUES or node.op_type == "Concat":
        return Derivation(node.output[0], sources)
    if node.op_type == "Relu":
        return Derivation(node.output[0], sources, low=0.0)
    if node.op_type == "Clip":
        bounds = _clip_bounds(node, constants)
        return None if bounds is None else Derivation(node.output[0], sources, *bounds)
    return None


def _clip_bounds(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> tuple[float | None, float | None] | None:
    """Return the bounds of a Clip, from its attributes (opset below 11) or inputs; None when they are not constant."""
    import onnx

    bounds = {"min": -math.inf, "max": math.inf}
    for attribute in node.attribute:
        if attribute.name in bounds:
            bounds[attribute.name] = attribute.f
    for key, name in zip(bounds, node.input[1:], strict=False):
        if name:
            tensor = constants.get(name)
            if tensor is None or is_external(tensor):
                return None
            values: Any = onnx.numpy_helper.to_array(tensor)
            if values.size != 1:
                return None
            bounds[key] = float(values.reshape(()))
    low, high = bounds["min"], bounds["max"]
    if not (low <= high and low < math.inf and high > -math.inf):  # NaN too, and bounds the wrong way round
        return None
    return (low if low > -math.inf else None), (high if high < math.inf else None)


def value_bytes(known: onnx.TypeProto.Tensor) -> int:
    """Return a float32 tensor's size for one sample, with every dimension that is not fixed taken as 1."""
    if not known.HasField("shape"):
        return 0
    sizes = [max(int(dim.dim_value), 1) if dim.HasField("dim_value") else 1 for dim in known.shape.dim]
    return 4 * math.prod(sizes)
