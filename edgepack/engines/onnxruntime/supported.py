"""Which nodes of a model ONNX Runtime's CPU provider has no kernel for, by its own tables of operators and kernels."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from edgepack.engines.common.weights import read_message
from edgepack.graph.walk import bodies
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx

_CPU = "CPUExecutionProvider"
_DEFAULT_DOMAINS = ("", "ai.onnx")
_LARGE_BYTES = 4096
_FOLDED = ("Constant",)  # becomes an initializer, so that no kernel is wanted


def missing_kernels(path: Path) -> list[Diagnostic]:
    """Return one error for each node whose operator or whose input types have no CPU kernel; unknown types are let by.

    Shapes and weights do not matter. Needs onnx and ONNX Runtime.
    """
    try:
        proto = read_message(path)
    except (OSError, ValueError) as error:
        return [Diagnostic("error", f"cannot read {path.name}: {error}")]
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > _LARGE_BYTES:
            tensor.ClearField("raw_data")  # else inferring types would copy them, twice
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    local = {(_domain(f.domain), f.name) for f in proto.functions}
    found = []
    for node, types in _typed_nodes(_inferred(proto).graph, {}):
        if (_domain(node.domain), node.op_type) in local or node.op_type in _FOLDED:
            continue
        if problem := _problem(node, types, opsets):
            found.append(
                Diagnostic(
                    "error", problem, node.name or next(iter(node.output), None), "use another precision or operator"
                )
            )
    return found


def _problem(node: onnx.NodeProto, types: Mapping[str, str], opsets: Mapping[str, int]) -> str | None:
    domain = _domain(node.domain)
    schema = _schema(domain, node.op_type, opsets.get(domain, 1))
    title = f"{domain}.{node.op_type}" if domain else node.op_type
    if schema is None:
        return f"ONNX Runtime does not know the operator {title} of opset {opsets.get(domain, '?')}"
    kernels = [k for low, high, k in _kernels().get((domain, node.op_type), ()) if low <= schema.since_version <= high]
    if not kernels:
        return None if _has_body(domain, node.op_type, schema.since_version) else f"ONNX Runtime's CPU has no {title}"
    for name, kind, constraint in _inputs(node, schema, types):
        allowed = {t for kernel in kernels for t in kernel.get(constraint, kernel.get(name, (kind,)))}
        # It casts float16 to float32 around a node that has no float16 kernel.
        if kind not in allowed and not (kind == "tensor(float16)" and "tensor(float)" in allowed):
            return f"ONNX Runtime's CPU has no {title} for {kind}"
    return None


def _inputs(node: onnx.NodeProto, schema: Any, types: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (parameter name, type, type constraint) of each input whose type is known."""
    formal = list(schema.inputs)
    for i, name in enumerate(node.input):
        if name in types and formal:
            parameter = formal[min(i, len(formal) - 1)]  # the last one may be variadic
            yield parameter.name, types[name], parameter.typeStr


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto`` with the types of its tensors where they can be inferred."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(proto)
    except Exception:  # its errors have no common base; without types only the operators are checked
        return proto


def _typed_nodes(
    graph: onnx.GraphProto, outer: Mapping[str, str]
) -> Iterator[tuple[onnx.NodeProto, Mapping[str, str]]]:
    """Yield every node, those of inner graphs included, with the types of the tensors it can see."""
    types = dict(outer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.HasField("tensor_type"):
            types[value.name] = _type_name(value.type.tensor_type.elem_type)
    for tensor in graph.initializer:
        types[tensor.name] = _type_name(tensor.data_type)
    for node in graph.node:
        yield node, types
        for inner in bodies(node):
            yield from _typed_nodes(inner, types)


@functools.cache
def _type_name(data_type: int) -> str:
    """Return a tensor type as ONNX Runtime writes it, ``tensor(float)``."""
    import onnx

    return f"tensor({onnx.TensorProto.DataType.Name(data_type).lower()})"


@functools.cache
def _kernels() -> Mapping[tuple[str, str], list[tuple[int, int, Mapping[str, list[str]]]]]:
    """Return (first version, last version, type constraints) of the CPU's kernels by domain and operator."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    table: dict[tuple[str, str], list[tuple[int, int, Mapping[str, list[str]]]]] = {}
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == _CPU:
            entry = (*kernel.version_range, kernel.type_constraints)
            table.setdefault((_domain(kernel.domain), kernel.op_name), []).append(entry)
    return table


@functools.cache
def _schemas() -> Mapping[tuple[str, str], list[Any]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    table: dict[tuple[str, str], list[Any]] = {}
    for schema in state.get_all_operator_schema():
        table.setdefault((_domain(schema.domain), schema.name), []).append(schema)
    return table


def _schema(domain: str, operator: str, opset: int) -> Any:
    """Return the schema that holds at ``opset``: the newest one not above it; None when there is none."""
    fitting = [s for s in _schemas().get((domain, operator), ()) if s.since_version <= opset]
    return max(fitting, key=lambda s: s.since_version, default=None)


def _has_body(domain: str, operator: str, version: int) -> bool:
    """Say whether the operator is a function of others, which ONNX Runtime inlines when it has no kernel."""
    import onnx

    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return True  # one of ONNX Runtime's own: let it decide
    return bool(schema.has_function or schema.has_context_dependent_function)


def _domain(name: str) -> str:
    return "" if name in _DEFAULT_DOMAINS else name
