"""What TensorRT on the device would refuse, reported on the build machine: by node, with hints. Needs onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepack.engines.common.refusals import opset_too_high
from edgepack.engines.tensorrt import quantized, restrictions
from edgepack.engines.tensorrt.api_versions import OLDEST, SURFACES, Surface, surface_of
from edgepack.engines.tensorrt.facts import ENGINE
from edgepack.engines.tensorrt.footprint import measure_footprint
from edgepack.engines.tensorrt.graph_view import GraphView, read_view
from edgepack.engines.tensorrt.operators import operator_since, takes_operator, takes_type
from edgepack.engines.tensorrt.shapes import input_shapes
from edgepack.errors import CompileError, ToolchainError
from edgepack.specs.model import Diagnostic, OnnxModel
from edgepack.specs.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOUBLE, _INT64 = 11, 7  # TensorProto.DOUBLE and INT64 of onnx.proto
_INT32_MAX = (1 << 31) - 1


def check_model(model: OnnxModel, target: Target) -> list[Diagnostic]:
    """Return what the device's TensorRT will refuse or change: errors, then warnings, in the order of the graph."""
    if (refused := refuses_target(target)) is not None:
        return [refused]
    version = target.engine.version or SURFACES[-1].since
    surface = surface_of(version)
    view = read_view(model)
    found = [
        *_check_opset(model, target, surface),
        *_check_operators(view, version, target),
        *_check_types(view, model, version, surface),
        *quantized.check_quantization(view),
        *restrictions.check_nodes(view, version),
        *_check_memory(view, model, target),
    ]
    return sorted(dict.fromkeys(found), key=lambda d: d.severity != "error")


def refuses_target(target: Target) -> Diagnostic | None:
    """Return why no model at all is taken for a target: its TensorRT is too old. None where it is not."""
    version = target.engine.version or SURFACES[-1].since
    try:
        surface_of(version)
    except ToolchainError:
        return _too_old(version, target)
    return None


def dla_core(target: Target) -> int | None:
    """Return which DLA the profile's device names: "DLA" and "DLA.0" are 0, "DLA.1" is 1; None for the GPU."""
    kind, _, number = target.engine.device.partition(".")
    return int(number or 0) if kind == "DLA" else None


def _too_old(version: str, target: Target) -> Diagnostic:
    return Diagnostic(
        "error",
        f"{target.id} has TensorRT {version}; edgepack supports {OLDEST} and newer",
        hint="update JetPack where the board allows it; else build the fp32 model for generic-aarch64, whose ONNX file "
        "the device's own trtexec can try",
    )


def _check_opset(model: OnnxModel, target: Target, surface: Surface) -> list[Diagnostic]:
    advice = " (bf16 needs opset 22: use fp16)" if model.opset == 22 else ""
    title = f"{ENGINE.title} {target.engine.version or ''}".rstrip()
    return opset_too_high(title, model, target, surface.max_opset, advice)


def _check_operators(view: GraphView, version: str, target: Target) -> Iterator[Diagnostic]:
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx"):
            if (node.domain, node.op_type) in view.functions:
                continue
            yield Diagnostic(
                "error",
                f"{node.domain}.{node.op_type} is not a standard operator; TensorRT knows it only with a plugin",
                node.name,
                "replace it by standard operators before exporting, or leave it to the program around the model",
            )
        elif not takes_operator(node.op_type, version):
            since = operator_since(node.op_type)
            later = f"; TensorRT {since} takes it" if since else ""
            yield Diagnostic(
                "error",
                f"the ONNX parser of TensorRT {version} on {target.id} has no {node.op_type}{later}",
                node.name,
                _replacement(node.op_type, since),
            )


# Operators that an older opset does not have, so that exporters write them with simpler ones: the opset before.
_SPELLED_OUT = {"LayerNormalization": 16, "GroupNormalization": 17, "Mish": 17, "Gelu": 19, "RMSNormalization": 22}


def _replacement(operator: str, since: str | None) -> str:
    if since is not None:
        older = _SPELLED_OUT.get(operator)
        return f"use a profile with TensorRT {since} or newer" + (
            f", or export with opset {older}, which spells it out" if older else ""
        )
    if operator.startswith(("QLinear", "MatMulInteger", "ConvInteger", "DynamicQuantize")):
        return (
            "--requantize takes the float model out of it, which --precision int8 quantizes as TensorRT reads it; "
            "or give edgepack the fp32 model"
        )
    if operator.startswith(("Sequence", "Optional", "String", "ConcatFromSequence", "SplitToSequence", "Tf")):
        return "do this step outside the model: TensorRT has tensors of numbers only"
    return "replace it by other standard operators in the model's code, then export again"


def _check_types(view: GraphView, model: OnnxModel, version: str, surface: Surface) -> Iterator[Diagnostic]:
    for spec in (*model.inputs, *model.outputs):
        side = "input" if spec in model.inputs else "output"
        if spec.dtype == "float64":
            yield Diagnostic(
                "error",
                f"the {side} {spec.name!r} is float64; TensorRT has no 64-bit floats",
                hint="cast it to float32 in the model, and feed float32",
            )
        elif spec.dtype == "int64" and not surface.int64:
            yield Diagnostic(
                "warning",
                f"the {side} {spec.name!r} is int64; TensorRT {version} computes it in 32 bits",
                hint="edgepack converts it and refuses values beyond 32 bits; trtexec's users feed int32",
            )
    for node in view.nodes:
        for name in (*node.input, *node.output):
            kind = view.types.get(name)
            if kind is None or kind == _DOUBLE or takes_type(kind, version):
                continue
            yield Diagnostic(
                "error",
                f"the tensor {name!r} is {view.type_name(kind)}, which TensorRT {version} does not have",
                node.name,
                "cast it to a type that it has: float32, float16, int32, int64 or bool",
            )
            break
    yield from _check_constants(view, version, surface)


def _check_constants(view: GraphView, version: str, surface: Surface) -> Iterator[Diagnostic]:
    """Warn of float64, which becomes float32; refuse whole numbers that do not fit 32 bits where they would be cut."""
    for name, tensor in view.constants.items():
        user = view.first_user(name)
        if tensor.data_type == _DOUBLE:
            yield Diagnostic(
                "warning",
                f"the constant {name!r} is float64; TensorRT converts it to float32",
                user.name if user is not None else None,
                "export the model in float32, so that other engines compute the same",
            )
        if tensor.data_type != _INT64 or surface.int64 or user is None or user.op_type == "Slice":
            continue  # a Slice's end of INT64_MAX means "to the end", and is the same when it is cut
        values = view.values(name)
        if values is not None and values.size and max(abs(int(values.min())), abs(int(values.max()))) > _INT32_MAX:
            yield Diagnostic(
                "error",
                f"the constant {name!r} holds {int(max(values.max(), -values.min(), key=abs))}; TensorRT {version} "
                "cuts whole numbers to 32 bits",
                user.name,
                "use a smaller value, or a profile with TensorRT 10",
            )


def _check_memory(view: GraphView, model: OnnxModel, target: Target) -> Iterator[Diagnostic]:
    """Compare weights and the largest activations with the device's memory; free axes are taken at their largest."""
    fixed = dla_core(target) is not None
    try:
        shapes = input_shapes(model.inputs, fixed=fixed)
    except CompileError as error:
        yield Diagnostic("error", error.message, hint=error.hint)
        return
    for entry, spec in zip(shapes, model.inputs, strict=True):
        free = [i for i, size in enumerate(spec.shape) if isinstance(size, str) and i > 0]
        if free and not fixed:
            yield Diagnostic(
                "warning",
                f"the input {spec.name!r} has free axes: the engine is built for {list(entry.minimum)} to "
                f"{list(entry.maximum)}",
                hint=f"fix what never changes, as --shape {spec.name}=1x128",
            )
    memory = target.limits.memory_bytes
    if memory is None:
        return
    need = measure_footprint(view, model.size_bytes, shapes)
    running = need.weights_bytes + need.activations_bytes
    if running > memory or need.build_bytes > memory:
        what = "running it" if running > memory else "building its engine"
        total = running if running > memory else need.build_bytes
        yield Diagnostic(
            "error",
            f"{what} takes at least {total / 1e9:.1f} GB ({need.weights_bytes / 1e9:.1f} GB of weights, "
            f"{need.activations_bytes / 1e9:.1f} GB of activations), and {target.id} has {memory / 1e9:.1f} GB",
            need.node if need.activations_bytes > need.weights_bytes else None,
            "use a smaller model, batch or --shape, or fp16 or int8 weights",
        )
