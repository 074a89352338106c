"""From an ONNX file to TVM's own graph: shapes frozen, constants folded, operators that TVM lacks written in others.

TVM 0.27 reads opsets up to 22, takes no notice of operator domains, and fails on much that depends on shapes which are
only known while running; so all of this is done on the ONNX graph, where each step leaves a valid model.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.files import scratch_folder
from edgepack.engines.common.inputs import engine_words
from edgepack.engines.common.resizes import NO_ANTIALIAS, shrinks_with_antialias
from edgepack.engines.tvm.culprit import find_culprit
from edgepack.engines.tvm.installed import import_tvm
from edgepack.engines.tvm.onnx import resizes
from edgepack.engines.tvm.onnx.if_nodes import merge_branches
from edgepack.engines.tvm.onnx.infinities import tell_signs
from edgepack.engines.tvm.onnx.powers import match_powers
from edgepack.engines.tvm.onnx.qoperators import expand_qoperators
from edgepack.engines.tvm.onnx.recurrent import RECURRENT, unroll_recurrent, why_not
from edgepack.engines.tvm.onnx.resizes import fractional_scales
from edgepack.errors import CompileError, EdgepackError
from edgepack.graph import narrow, passes
from edgepack.graph.fold import FOLD_LIMIT_BYTES, optimize_basic
from edgepack.graph.load import read_proto, save_proto
from edgepack.specs.model import LENGTH, UNNAMED, Diagnostic, OnnxModel

if TYPE_CHECKING:
    import onnx

HIGHEST_OPSET = 22
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_EXPANDED_LATE = frozenset({"ConvInteger"})
_MOST_TURNS = 4
# Tried with TVM 0.27: buffers used before their definition, and no such intrinsic.
_NOT_COMPILED = ("NonMaxSuppression", "Cosh")
# Compiled into calls of functions that the runtime libraries of the package do not have: tvm.contrib.sort.topk,
# relax.run.nonzero and relax.run.unique (tried with TVM 0.27).
_NOT_RUN = ("TopK", "NonZero", "Unique")
_TRANSFORMATION = "coordinate_transformation_mode"
_TRANSFORMATIONS = (
    *("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn"),
    "tf_crop_and_resize",
)
_HINT = "replace the operator in the model, or use a target with another engine"

Shapes = dict[str, tuple[int | str, ...]]


@dataclass(frozen=True)
class Readied:
    """A graph with fixed shapes in operators that TVM reads, but for those that ``missing`` names."""

    proto: onnx.ModelProto
    missing: tuple[Diagnostic, ...]


def ready(model: OnnxModel, batch: int | None = 1) -> Readied:
    """Return the graph as it will be imported, a free first extent being ``batch``, or left free for None.

    Raises ``CompileError`` when the file cannot be read, or an extent is free that is not the batch.
    """
    try:
        proto = read_proto(model)
    except EdgepackError as error:
        raise _refused(model, error.message) from error
    if not proto.graph.node and not proto.graph.output:
        raise _refused(model, "it holds no graph")
    passes.freeze_initializers(proto)
    freeze_shapes(proto, model, batch)
    proto = _inline_functions(proto)
    expand_qoperators(proto)
    match_powers(proto, tensor_types(proto))
    tell_signs(proto, tensor_types(proto))
    with scratch_folder("edgepack-tvm-") as scratch:
        proto = _folded(proto, scratch / "0")
        for turn in range(_MOST_TURNS):  # a branch that was merged may hold a layer to unroll, and that another branch
            unrolled, merged = unroll_recurrent(proto, tensor_shapes(proto)), merge_branches(proto)
            if not unrolled and not merged:
                break
            proto = _folded(proto, Path(scratch, str(turn + 1)))
    passes.constants_to_initializers(proto)
    return Readied(proto, tuple(_missing(proto, tensor_shapes(proto))))


def import_graph(model: OnnxModel, readied: Readied) -> Any:
    """Return TVM's module (``IRModule``) with the function ``main``. Raises ``CompileError``."""
    if readied.missing:
        first = readied.missing[0]
        more = f" (and {len(readied.missing) - 1} more)" if len(readied.missing) > 1 else ""
        raise CompileError(f"TVM refused {model.path.name}: {first.message} at node {first.node}{more}", hint=_HINT)
    proto = readied.proto
    _integer_convolutions(proto)
    _typed_one_hots(proto)
    try:
        module = read_graph(proto)
    except Exception as error:  # its errors have no common base
        blame = find_culprit(proto, tensor_types(proto), tensor_shapes(proto), read_graph)
        where = f" at {blame[1]} {blame[0]}" if blame else ""
        raise _refused(model, f"{engine_words(blame[2] if blame else error)}{where}") from error
    _check_types(model, module)
    return module


def _check_types(model: OnnxModel, module: Any) -> None:
    """Refuse a graph whose outputs have other types than the model's: who reads them would get other numbers."""
    made = module["main"].ret_ty
    for spec, found in zip(model.outputs, getattr(made, "fields", [made]), strict=True):
        kind = str(getattr(found, "dtype", "a shape"))  # sizes that are an output are not a tensor to TVM
        if kind not in ("", spec.dtype):
            raise _refused(model, f"it makes the output {spec.name!r} {kind}, not {spec.dtype}")


def import_problems(model: OnnxModel, readied: Readied) -> list[Diagnostic]:
    """Return what TVM's reader refuses in a graph of operators that it has, by node."""
    if readied.missing:
        return []
    copy = type(readied.proto)()
    copy.CopyFrom(readied.proto)
    _integer_convolutions(copy)
    _typed_one_hots(copy)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):  # it prints as well
            read_graph(copy)
    except Exception as error:  # as above
        found = find_culprit(copy, tensor_types(copy), tensor_shapes(copy), read_graph)
        node, operator, reason = found or (None, model.path.name, error)
        return [Diagnostic("error", f"TVM refuses {operator}: {engine_words(reason)}", node, _HINT)]
    return []


def read_graph(proto: onnx.ModelProto) -> Any:
    """Return TVM's module of a graph. Raises what TVM's reader raises, which has no common base."""
    frontend = import_tvm("tvm.relax.frontend.onnx")
    opset = min(next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), HIGHEST_OPSET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every name that it changes
        return frontend.from_onnx(proto, opset=opset)


def freeze_shapes(proto: onnx.ModelProto, model: OnnxModel, batch: int | None) -> None:
    """Give every input a fixed shape; the first extent, where it is free, becomes ``batch`` unless that is None."""
    names = {spec.shape[0] for spec in model.inputs if spec.batched} - {UNNAMED}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            raise _free_extent(model, value.name)
        for position, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if (position or dim.dim_param.startswith(LENGTH)) and dim.dim_param not in names:
                raise _free_extent(model, value.name)
            if batch is not None:
                dim.dim_value = batch
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")


def tensor_types(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the element types of all tensors of the main graph that are known."""
    return narrow.tensor_types(_inferred(proto))


def tensor_shapes(proto: onnx.ModelProto) -> Shapes:
    """Return the shapes of all tensors of the main graph that are known, from their notes and by inference."""
    inferred = _inferred(proto)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for value in values:
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
    return shapes


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # its errors have no common base; what is stated in the graph is known all the same
        return proto


def _folded(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return the graph with constants folded by ONNX Runtime; as it was where that does not load it.

    A graph in float16 is left to onnxslim: ONNX Runtime's CPU has few kernels for it, and what it saves computes in
    float32 between casts.
    """
    folder.mkdir()
    try:
        saved = save_proto(proto, folder, durable=False)
        if _has_half(proto):
            import onnxslim

            return onnxslim.slim(str(saved.path), size_threshold=FOLD_LIMIT_BYTES)
        return read_proto(optimize_basic(saved, folder))
    except Exception:  # an operator that only others know; TVM may know it, and says which if not
        return proto


def _has_half(proto: onnx.ModelProto) -> bool:
    """Say whether weights or results are float16."""
    import onnx

    half = onnx.TensorProto.FLOAT16
    return any(tensor.data_type == half for tensor in proto.graph.initializer) or any(
        node.op_type == "Cast" and any(a.name == "to" and a.i == half for a in node.attribute)
        for node in proto.graph.node
    )


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Write operators that TVM lacks, and that ONNX defines as functions of others, as those others."""
    import onnx.inliner

    known = supported_operators()
    lacking = {
        node.op_type
        for node in proto.graph.node
        if node.domain in ("", "ai.onnx")
        # Attention of opset 23 has the name of another operator that TVM knows.
        and (node.op_type not in known or node.op_type == "Attention")
        and node.op_type not in RECURRENT
    }
    wanted = {("", name) for name in lacking} | {(function.domain, function.name) for function in proto.functions}
    if not wanted:
        return proto
    try:
        return onnx.inliner.inline_selected_functions(proto, sorted(wanted), inline_schema_functions=True)
    except Exception:  # without it, the list of missing operators says what is wrong
        return proto


def supported_operators() -> frozenset[str]:
    """Return the names of the operators that TVM's ONNX reader knows, control flow included."""
    reader = import_tvm("tvm.relax.frontend.onnx.onnx_frontend")
    return frozenset(reader._get_convert_map()) | {"If", "Constant"}


def _missing(proto: onnx.ModelProto, shapes: Shapes) -> list[Diagnostic]:
    known = supported_operators() | _EXPANDED_LATE
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        where = node.name or next(iter(node.output), None)
        title = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        if node.domain not in _DOMAINS or node.op_type not in known:
            reason = why_not(node, shapes) if node.op_type in RECURRENT else None
            found.append(Diagnostic("error", f"TVM has no {reason or title}", where, _HINT))
        elif reason := _not_compiled(node):
            found.append(Diagnostic("error", f"TVM does not compile {reason}", where, _HINT))
        elif node.op_type in _NOT_RUN:
            found.append(Diagnostic("error", f"TVM's runtime library has no {node.op_type}", where, _HINT))
        elif shrinks_with_antialias(node, constants, shapes):
            found.append(
                Diagnostic("error", "TVM makes things smaller by Resize without its antialias", where, NO_ANTIALIAS)
            )
        elif reason := fractional_scales(node, shapes, constants):
            found.append(Diagnostic("error", f"TVM does not compute as ONNX does {reason}", where, resizes.HINT))
    return found


def _not_compiled(node: onnx.NodeProto) -> str | None:
    """Return of what TVM's reader takes, but TVM 0.27 does not compile, what it is."""
    if node.op_type in _NOT_COMPILED:
        return str(node.op_type)
    if node.op_type == "MaxPool" and len([name for name in node.output if name]) > 1:
        return "MaxPool with its output of indices"
    mode = next((a.s.decode(errors="replace") for a in node.attribute if a.name == _TRANSFORMATION), "half_pixel")
    if node.op_type == "Resize" and mode not in _TRANSFORMATIONS:
        return f"Resize with {_TRANSFORMATION} = {mode}"
    return None


def _integer_convolutions(proto: onnx.ModelProto) -> None:
    """Write ConvInteger as a Conv of int32, which ONNX does not have and TVM's reader takes."""
    from edgepack.engines.tvm.onnx.edit import Rewriter, optional

    if not any(node.op_type == "ConvInteger" for node in proto.graph.node):
        return
    rewriter = Rewriter(proto.graph)
    for node in proto.graph.node:
        if node.op_type != "ConvInteger":
            rewriter.keep(node)
            continue
        parts = []
        for index in (0, 1):
            part = rewriter.add("Cast", [node.input[index]], f"{node.input[index]}.wide", {"to": 6})
            if zero := optional(node, index + 2):
                wide = rewriter.add("Cast", [zero], f"{zero}.wide", {"to": 6})
                part = rewriter.add("Sub", [part, wide], f"{part}.centred")
            parts.append(part)
        rewriter.add("Conv", parts, [str(node.output[0])])
        rewriter.nodes[-1].attribute.extend(node.attribute)
    rewriter.finish()


def _typed_one_hots(proto: onnx.ModelProto) -> None:
    """Cast what OneHot makes to the type of its values, of which TVM makes float64."""
    from edgepack.engines.tvm.onnx.edit import Rewriter

    types = tensor_types(proto)
    if not any(node.op_type == "OneHot" for node in proto.graph.node):
        return
    rewriter = Rewriter(proto.graph)
    for node in proto.graph.node:
        rewriter.keep(node)
        kind = types.get(node.output[0]) or types.get(node.input[2]) if node.op_type == "OneHot" else None
        if kind:
            name = node.output[0]
            node.output[0] = rewriter.free(f"{name}.wide")
            rewriter.add("Cast", [node.output[0]], [name], {"to": kind})
    rewriter.finish()


def _free_extent(model: OnnxModel, name: str) -> CompileError:
    spec = next((spec for spec in model.inputs if spec.name == name), None)
    shape = f"[{', '.join(str(extent) for extent in spec.shape)}]" if spec else "of no shape"
    sizes = spec.shape if spec else (1, 3, 224, 224)
    batched = spec is not None and spec.batched
    free = ["N" if batched and not axis else "128" for axis in range(len(sizes))]
    example = "x".join(
        str(extent) if isinstance(extent, int) else name for extent, name in zip(sizes, free, strict=True)
    )
    return CompileError(
        f"TVM refused {model.path.name}: it compiles for fixed shapes, and the input {name!r} is {shape}",
        hint=f"give its sizes with --shape, as --shape {name}={example}{' (an N stays the batch)' if batched else ''}",
    )


def _refused(model: OnnxModel, words: str) -> CompileError:
    return CompileError(f"TVM refused {model.path.name}: {words}", hint=_HINT)
