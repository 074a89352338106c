"""Checks a ``.pt2`` file before torch opens it: torch.export.load runs code that a hostile file brings along.

A ``.pt2`` is a zip with the graph as JSON and the weights as raw bytes, which is safe. But torch 2.13 also unpickles
(weights of tensor subclasses, constants that are objects, example inputs: with ``weights_only=False`` when
``weights_only=True`` refuses), loads compiled libraries (``data/aotinductor``), evaluates size expressions with
``sympy.sympify`` and guards with ``exec``, and calls any function below ``torch`` or ``operator`` that the graph names
(torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py). Each of these is looked at here, and refused
unless it is the plain kind that ``torch.export.save`` writes for an ordinary module.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgepack.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "save it again with torch.export.save, or give the module itself (file.py:callable) or an .onnx file"
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|models/model\.json|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
# Operators of torch's own libraries, and the arithmetic of sizes; never a plain Python function of torch.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(ceil|floor|sqrt|trunc)"
    r"|torch\.(sym_\w+|_sym_\w+)"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
# What sympy and torch.utils._sympy.functions offer for sizes; strings are only allowed as names of symbols.
_FUNCTIONS = frozenset(
    {
        *("Symbol", "Integer", "Rational", "Float", "true", "false", "oo", "int_oo", "Identity", "Where"),
        *("Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "FloorDiv", "CleanDiv", "CeilDiv", "PythonMod"),
        *("ModularIndexing", "IntTrueDiv", "FloatTrueDiv", "PowByNatural", "FloatPow", "LShift", "RShift"),
        *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan"),
        *("LessThan", "StrictGreaterThan", "GreaterThan", "IsNonOverlappingAndDenseIndicator", "RoundDecimal"),
        *("TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt", "ToFloat", "OpaqueUnaryFn_sqrt"),
    }
)
_SAFE_NODES = (
    ast.Expression, ast.keyword, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.FloorDiv, ast.Mod, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
_PLAIN_HINT = "let forward take and return tensors, tuples, lists and dicts with text keys, and save it again"
_GUARD_METHODS = frozenset({"size", "stride", "storage_offset", "dim"})


def check_archive(path: Path) -> None:
    """Raise ``ModelError`` unless ``path`` is a ``.pt2`` that torch can load without running anything it brings."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive)
    except ModelError:
        raise
    except Exception as error:  # zipfile, zlib and json raise a dozen kinds for damaged files
        raise ModelError(f"{path.name} is not a .pt2 file, or is damaged: {error}", hint=_HINT) from None


def _check(archive: zipfile.ZipFile) -> None:
    members = archive.namelist()
    roots = {name.split("/")[0] for name in members}
    if len(roots) != 1 or len(set(members)) != len(members):
        raise ModelError("the .pt2 file is not one archive of torch.export", hint=_HINT)
    root = roots.pop()
    for member in archive.infolist():
        name = member.filename.removeprefix(f"{root}/")
        if not _MEMBER.fullmatch(name) or member.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"the .pt2 file holds {name!r}, which edgepack does not load", hint=_HINT)
    model = json.loads(archive.read(f"{root}/models/model.json"))
    for config in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
        _check_payloads(json.loads(archive.read(f"{root}/{config}")))
    _check_examples(archive.read(f"{root}/data/sample_inputs/model.pt"))
    for key, value in _entries(model):
        _check_entry(key, value)


def _check_payloads(config: Mapping[str, Any]) -> None:
    for name, payload in config["config"].items():
        if payload["use_pickle"] is not False or not _PAYLOAD.fullmatch(payload["path_name"]):
            raise ModelError(f"the .pt2 file stores {name!r} as a Python object, not as a plain tensor", hint=_HINT)


def _check_examples(data: bytes) -> None:
    import torch

    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # unpickling a hostile file may raise anything
        raise ModelError("the example inputs in the .pt2 file are not plain tensors", hint=_HINT) from error


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, however deep."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key), item
            yield from _entries(item)
    elif isinstance(value, list):
        for item in value:
            yield from _entries(item)


def _check_entry(key: str, value: Any) -> None:
    if key == "target" and not (isinstance(value, str) and _TARGET.fullmatch(value)):
        raise ModelError(f"the .pt2 file calls {str(value)[:80]!r}, which is not one of torch's operators", hint=_HINT)
    if key == "expr_str" and not _is_safe_expression(value):
        raise ModelError(f"the .pt2 file has the size {str(value)[:80]!r}, which is not plain arithmetic", hint=_HINT)
    if key == "range_constraints" and not all(_is_safe_expression(name) for name in value):
        raise ModelError("the .pt2 file has a range of something that is not plain arithmetic", hint=_HINT)
    if key == "guards_code" and not all(_is_safe_expression(guard, _is_safe_in_guard) for guard in value):
        raise ModelError("the .pt2 file has a guard that is not plain arithmetic on sizes", hint=_HINT)
    if key in ("in_spec", "out_spec") and not _is_plain_structure(json.loads(value)[1]):
        raise ModelError("the .pt2 file has inputs or outputs in a structure of its own class", hint=_PLAIN_HINT)
    if key == "as_custom_obj":
        raise ModelError("the .pt2 file uses a custom object, which edgepack does not load", hint=_HINT)


def _is_plain_structure(spec: Mapping[str, Any]) -> bool:
    """Say whether a structure of inputs or outputs is of plain containers: others name modules to import."""
    plain = spec["type"] in _CONTAINERS and all(
        isinstance(key, str) for key in json.loads(spec["context"] or "[]") or ()
    )
    return plain and all(_is_plain_structure(child) for child in spec["children_spec"])


def _is_safe_expression(text: Any, is_safe: Callable[[ast.AST], bool] | None = None) -> bool:
    """Say whether ``text``, which torch and sympy evaluate as Python, can only do arithmetic."""
    if not isinstance(text, str) or len(text) > 10_000:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all((is_safe or _is_safe_node)(node) for node in ast.walk(tree))


def _is_safe_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or bool(_WORD.fullmatch(node.value))
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or bool(re.fullmatch(r"[suz]\w*\d+|N|H|W|L", node.id))
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    return isinstance(node, _SAFE_NODES)


def _is_safe_in_guard(node: ast.AST) -> bool:
    """The same for a guard, such as ``L['x'].size()[0] > 3``: sizes of the inputs, compared."""
    if isinstance(node, ast.Name):
        return node.id in ("L", "max", "min")
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_METHODS
    if isinstance(node, ast.Call):
        method = isinstance(node.func, ast.Attribute) and not node.args
        return not node.keywords and (method or (isinstance(node.func, ast.Name) and node.func.id in ("max", "min")))
    return isinstance(node, ast.Subscript) or _is_safe_node(node)
