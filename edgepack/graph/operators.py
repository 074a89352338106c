"""Which operators and operator sets are known here: onnx's own, and ONNX Runtime's contributed ones."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from edgepack.base.documents import suggestion
from edgepack.errors import ModelError
from edgepack.graph.walk import all_nodes, describe_node
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

# The oldest ONNX Runtime that edgepack allows (pyproject.toml), 1.20, knows opset 21: below that nothing is probed.
_SURE_OPSET = 21
_CONTRIBUTED = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
_SHOWN = 5
_OF_TFLITE = "TFL_"  # how tf2onnx names what it leaves as it is


def find_unknown(proto: onnx.ModelProto) -> tuple[Diagnostic, ...]:
    """Return one error for every node with an unknown operator, those in control flow and functions included."""
    versions = opsets(proto)
    local = {(_domain(f.domain), f.name) for f in proto.functions}
    found = []
    for node in all_nodes(proto):
        domain = _domain(node.domain)
        if (domain, node.op_type) in local:
            continue
        if problem := _problem(domain, node.op_type, versions):
            found.append(Diagnostic("error", problem, node=describe_node(node), hint=_hint(domain, node.op_type)))
    return tuple(found)


def check_operators(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` that names the nodes whose operator is unknown."""
    found = find_unknown(proto)
    if not found:
        return
    by_problem: dict[str, list[str]] = {}
    for diagnostic in found:
        by_problem.setdefault(diagnostic.message, []).append(diagnostic.node or "")
    parts = [f"{problem} (nodes: {_some(nodes)})" for problem, nodes in by_problem.items()]
    raise ModelError("; ".join(parts[:_SHOWN]) + _more(parts), hint=found[0].hint)


def check_opsets(proto: onnx.ModelProto) -> None:
    """Raise ``ModelError`` when the model needs an operator set newer than onnx or ONNX Runtime here knows."""
    import onnx

    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"the model has IR version {proto.ir_version}; the installed onnx {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}",
            hint="install a newer onnx, or export the model with an older opset",
        )
    highest: Mapping[str, tuple[int, int]] = onnx.defs.C.schema_version_map()
    for domain, version in opsets(proto).items():
        known = highest.get(domain, (1, version))[1]
        if version < 1:
            raise ModelError(f"the model imports {_title(domain)} version {version}", hint="export the model again")
        if version > known:
            raise ModelError(
                f"the model uses {_title(domain)} {version}; the highest that onnx {onnx.__version__} knows is {known}",
                hint=f"export the model with opset {known} or lower, or install a newer onnx",
            )
    _check_runtime(opsets(proto).get("", 1))


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the imported operator sets by domain; the standard domain is the empty name."""
    return {_domain(o.domain): o.version for o in proto.opset_import}


def highest_runtime_opset(limit: int) -> int | None:
    """Return the highest opset up to ``limit`` that ONNX Runtime loads; None when it is not installed.

    It is found by loading a one-node model, since ONNX Runtime has no call that reports it.
    """
    try:
        import onnxruntime  # noqa: F401  (only whether it is there)
    except ImportError:
        return None
    return next((o for o in range(limit, _SURE_OPSET, -1) if _runtime_loads(o)), _SURE_OPSET)


@functools.cache
def _runtime_loads(opset: int) -> bool:
    import onnxruntime
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # its exception classes have no common base of their own
        return False
    return True


def _check_runtime(opset: int) -> None:
    if opset <= _SURE_OPSET:
        return
    highest = highest_runtime_opset(opset)
    if highest is not None and highest < opset:
        import onnxruntime

        raise ModelError(
            f"the model uses opset {opset}; the highest that ONNX Runtime {onnxruntime.__version__} loads is {highest}",
            hint=f"export the model with opset {highest} or lower",
        )


def _problem(domain: str, operator: str, versions: Mapping[str, int]) -> str | None:
    import onnx

    if domain not in versions:
        return f"the model does not import the domain {domain!r} of its operator {operator}"
    if domain in _CONTRIBUTED:
        known = _contributed()
        return None if known is None or (domain, operator) in known else f"ONNX Runtime knows no {domain}.{operator}"
    if domain not in onnx.defs.C.schema_version_map():
        return f"unknown domain {domain!r} of the operator {operator}"
    try:
        schema = onnx.defs.get_schema(operator, versions[domain], domain)
    except onnx.defs.SchemaError:
        return f"unknown operator {operator} in {_title(domain)} {versions[domain]}"
    if schema.deprecated:
        return f"the operator {operator} was removed in {_title(domain)} {schema.since_version}"
    return None


@functools.cache
def _contributed() -> frozenset[tuple[str, str]] | None:
    """Return (domain, operator) of ONNX Runtime's own schemas; None when it is not installed."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime
    except ImportError:
        return None
    return frozenset((schema.domain, schema.name) for schema in runtime.get_all_operator_schema())


def _hint(domain: str, operator: str) -> str:
    import onnx

    if operator.startswith(_OF_TFLITE):
        return (
            f"tf2onnx does not convert {operator.removeprefix(_OF_TFLITE)} of TensorFlow Lite, as the custom operators "
            "of MediaPipe: export the model from what it was made from"
        )
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == domain}
    near = suggestion(operator, names) if names else ""
    return near if near.startswith("did you mean") else "export the model with standard ONNX operators only"


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _title(domain: str) -> str:
    return f"{domain} opset" if domain else "opset"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + _more(names)


def _more(items: list[str]) -> str:
    return f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
