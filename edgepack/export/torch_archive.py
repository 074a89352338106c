"""Checks a ``.pt2`` file and writes it anew for torch: torch.export.load runs code that a hostile file brings along.

A ``.pt2`` is a zip with the graph as JSON and the weights as raw bytes, which is safe. But torch 2.13 also unpickles
(weights of tensor subclasses, constants that are objects, example inputs: with ``weights_only=False`` when
``weights_only=True`` refuses), loads compiled libraries (``data/aotinductor``), evaluates size expressions with
``sympy.sympify`` and guards with ``exec``, and calls any function below ``torch`` or ``operator`` that the graph names
(torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py). Each of these is looked at here, and refused
unless it is the plain kind that ``torch.export.save`` writes for an ordinary module.

torch reads a zip by another reader than Python's ``zipfile``, and a file can show each of them another content. So
torch never sees the file: it gets an archive in memory that holds what was checked and nothing else; documents and the
example inputs, which are a pickle, are written anew from what was read of them.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

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
_MODEL, _EXAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_UNUSED = re.compile(r"extra/.*|\.data/(?!version$)\w+")
_ROOT = "archive"
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


def read_archive(path: Path) -> io.BytesIO:
    """Return a ``.pt2`` that torch can load without running anything that ``path`` brings, written of checked parts.

    Raises ``ModelError`` where a part is of another kind than ``torch.export.save`` writes for an ordinary module.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return _rewrite(archive, os.fstat(file.fileno()).st_size)
    except ModelError:
        raise
    except Exception as error:  # zipfile, zlib and json raise a dozen kinds for damaged files
        raise ModelError(f"{path.name} is not a .pt2 file, or is damaged: {error}", hint=_HINT) from None


def _rewrite(archive: zipfile.ZipFile, size_bytes: int) -> io.BytesIO:
    members = _members(archive, size_bytes)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as out:
        for name, member in members.items():
            data = _checked(name, archive, member)
            if data is not None:
                out.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}"), data)
    result.seek(0)
    return result


def _members(archive: zipfile.ZipFile, size_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their names below the archive's one folder."""
    names = archive.namelist()
    roots = {name.split("/")[0] for name in names}
    if len(roots) != 1 or len({name.casefold() for name in names}) != len(names):
        raise ModelError("the .pt2 file is not one archive of torch.export", hint=_HINT)
    root = roots.pop()
    members = {member.filename.removeprefix(f"{root}/"): member for member in archive.infolist()}
    for name, member in members.items():
        if not _MEMBER.fullmatch(name) or member.compress_type != zipfile.ZIP_STORED:
            raise ModelError(f"the .pt2 file holds {name!r}, which edgepack does not load", hint=_HINT)
    if sum(member.file_size for member in archive.infolist()) > size_bytes:
        raise ModelError("the .pt2 file holds more than its own size: its parts overlap", hint=_HINT)
    if min(member.header_offset for member in archive.infolist()) != 0:
        raise ModelError("the .pt2 file holds other data before its archive, which another reader may see", hint=_HINT)
    if missing := sorted({_MODEL, *_CONFIGS} - set(members)):
        raise ModelError(f"the .pt2 file has no {missing[0]}", hint=_HINT)
    return members


def _checked(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    """Return what torch gets of a member; None for what it does not need."""
    if _UNUSED.fullmatch(name):
        return None
    data = archive.read(member)
    if name == _EXAMPLES:
        return _plain_examples(data)
    if name == _MODEL:
        document = json.loads(data)
        for key, value in _entries(document):
            _check_entry(key, value)
        return json.dumps(document).encode()
    if name in _CONFIGS:
        config = json.loads(data)
        _check_payloads(config)
        return json.dumps(config).encode()
    return data


def _check_payloads(config: Mapping[str, Any]) -> None:
    for name, payload in config["config"].items():
        if payload["use_pickle"] is not False or not _PAYLOAD.fullmatch(payload["path_name"]):
            raise ModelError(f"the .pt2 file stores {name!r} as a Python object, not as a plain tensor", hint=_HINT)


def _plain_examples(data: bytes) -> bytes:
    """Return example inputs written anew; they are tensors in plain containers."""
    import torch

    if not data:
        return data
    try:
        examples = torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:  # unpickling a hostile file may raise anything
        raise ModelError("the example inputs in the .pt2 file are not plain tensors", hint=_HINT) from error
    result = io.BytesIO()
    torch.save(_plain(examples), result)
    return result.getvalue()


def _plain(value: Any) -> Any:
    import torch

    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value) if type(value) in (list, tuple) else _refuse(value)
    return value if type(value) in (torch.Tensor, int, float, bool, str, type(None)) else _refuse(value)


def _refuse(value: Any) -> NoReturn:
    raise ModelError(f"the example inputs in the .pt2 file hold a {type(value).__name__}", hint=_PLAIN_HINT)


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
