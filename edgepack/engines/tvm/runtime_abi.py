"""TVM's runtime through its C interface by ctypes, so that a device needs two shared libraries and no Python package.

Layouts and type numbers are those of ``tvm/ffi/c_api.h`` (apache-tvm-ffi 0.1) and ``dlpack/dlpack.h``. A process has
one TVM runtime: libraries find each other by their names, so the first one loaded serves every model.
"""

from __future__ import annotations

import ctypes
import filecmp
import importlib.util
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64
from ctypes import c_void_p as pointer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.common.refusals import require_files
from edgepack.errors import ToolchainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepack.specs.types import Array

FFI = "libtvm_ffi.so"
RUNTIME = "libtvm_runtime.so"
IN_PACKAGES = {FFI: "tvm_ffi/lib/libtvm_ffi.so", RUNTIME: "tvm/lib/libtvm_runtime.so"}

_NONE, _INT, _BOOL, _RAW_STRING = 0, 1, 2, 8
_FIRST_OBJECT = 64
_FUNCTION, _TENSOR, _ARRAY, _MODULE = 68, 70, 71, 73
_HEADER_BYTES = 24  # TVMFFIObject: reference counts, type, deleter
_CPU = 1
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 6}  # DLDataTypeCode
_LETTERS = {code: letter for letter, code in _KINDS.items()}
# What generated code assumes of every buffer: kAllocAlignment of tvm/runtime/device_api.h.
ALIGNMENT_BYTES = 64


class TvmError(Exception):
    """TVM raised an error; its own words."""


class _Value(ctypes.Union):
    _fields_ = (("integer", c_int64), ("pointer", pointer), ("text", c_char_p))


class Any_(ctypes.Structure):  # noqa: N801  (its name in c_api.h is TVMFFIAny)
    """A value of any type: a number, a text, or a reference to an object."""

    _fields_ = (("type_index", c_int32), ("padding", c_uint32), ("value", _Value))


class _Bytes(ctypes.Structure):
    _fields_ = (("data", pointer), ("size", c_size_t))

    def text(self) -> str:
        return ctypes.string_at(self.data, self.size).decode(errors="replace")


class _ErrorCell(ctypes.Structure):
    _fields_ = (("kind", _Bytes), ("message", _Bytes))


class _Sequence(ctypes.Structure):
    _fields_ = (("data", POINTER(Any_)), ("size", c_int64))


class _Version(ctypes.Structure):
    _fields_ = (("major", c_uint32), ("minor", c_uint32), ("patch", c_uint32))


class _DlTensor(ctypes.Structure):
    _fields_ = (
        ("data", pointer),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class _DlManaged(ctypes.Structure):
    _fields_ = (("tensor", _DlTensor), ("context", pointer), ("deleter", pointer))


class Handle:
    """A counted reference to one of TVM's objects; the last one frees it."""

    def __init__(self, api: Runtime, address: int, type_index: int) -> None:
        self.address, self.type_index = address, type_index
        self._release = api.release

    def __del__(self) -> None:
        if self.address:
            self._release(self.address)
            self.address = 0


class InputTensor:
    """A tensor in memory of our own, aligned as generated code wants it; ``array`` is written before a call."""

    def __init__(self, api: Runtime, shape: tuple[int, ...], dtype: str) -> None:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        self._memory = np.zeros(size + ALIGNMENT_BYTES, np.uint8)
        start = -self._memory.ctypes.data % ALIGNMENT_BYTES
        self.array: Array = self._memory[start : start + size].view(kind).reshape(shape)
        self._shape = (c_int64 * max(1, len(shape)))(*shape)
        self._managed = _DlManaged(
            _DlTensor(
                self._memory.ctypes.data + start, _CPU, 0, len(shape), _KINDS[kind.kind], 8 * kind.itemsize, 1,
                self._shape, None, 0,
            ),
            None, None,
        )  # fmt: skip
        self.handle = api.tensor(self._managed)


class Runtime:
    """The two libraries, loaded. Raises ``ToolchainError`` when they do not load."""

    def __init__(self, folder: Path) -> None:
        self._ffi = _load(folder / FFI)
        version = _Version()
        self._ffi.TVMFFIGetVersion(byref(version))
        self.version = (version.major, version.minor, version.patch)
        for name in ("TVMFFIObjectDecRef", "TVMFFIFunctionGetGlobal", "TVMFFIFunctionCall", "TVMFFITensorFromDLPack"):
            getattr(self._ffi, name).restype = c_int
        self._ffi.TVMFFIObjectDecRef.argtypes = (pointer,)
        self._ffi.TVMFFIFunctionCall.argtypes = (pointer, POINTER(Any_), c_int32, POINTER(Any_))
        self._ffi.TVMFFIErrorMoveFromRaised.restype = None
        _load(folder / RUNTIME)
        self._load_module = self.function("ffi.ModuleLoadFromFile")
        self._get_function = self.function("ffi.ModuleGetFunction")
        self._loads = 0

    def release(self, address: int) -> None:
        """Drop one reference to an object."""
        self._ffi.TVMFFIObjectDecRef(address)

    def function(self, name: str) -> Handle:
        """Return a global function. Raises ``TvmError`` when the runtime has none of that name."""
        found = pointer()
        text = ctypes.create_string_buffer(name.encode())
        key = _Bytes(ctypes.addressof(text), len(text) - 1)
        self._check(self._ffi.TVMFFIFunctionGetGlobal(byref(key), byref(found)))
        if not found.value:
            raise TvmError(f"the runtime has no function {name}")
        return Handle(self, found.value, _FUNCTION)

    def load(self, path: Path) -> Handle:
        """Return the module in a shared library.

        The dynamic loader takes a path that it has seen before for the library that it has loaded, also when the file
        is another by now. So each time the same path is spelled differently: "/." and "//." are the digits of a count.
        """
        self._loads += 1
        digits = "".join("/." if digit == "0" else "//." for digit in f"{self._loads:b}")
        spelled = f"{path.parent.absolute()}{digits}/{path.name}"
        return self._object(self.call(self._load_module, spelled), _MODULE, path.name)

    def member(self, module: Handle, name: str) -> Handle:
        """Return a function of a module."""
        return self._object(self.call(self._get_function, module, name, True), _FUNCTION, name)

    def call(self, function: Handle, *arguments: Handle | int | str | bool) -> Any:
        """Return what the function returns: None, a number, or a ``Handle``. Raises ``TvmError``."""
        return self.run(function, *self.pack(*arguments))

    def pack(self, *arguments: Handle | int | str | bool) -> tuple[Any, int, Any]:
        """Return arguments in the form that ``run`` takes, with what must live as long as they do."""
        values = (Any_ * max(1, len(arguments)))()
        kept: list[Handle | bytes] = []
        for value, argument in zip(values, arguments, strict=False):
            match argument:
                case Handle():
                    value.type_index, value.value.pointer = argument.type_index, argument.address
                    kept.append(argument)
                case bool():
                    value.type_index, value.value.integer = _BOOL, int(argument)
                case int():
                    value.type_index, value.value.integer = _INT, argument
                case str():
                    text = argument.encode()
                    kept.append(text)
                    value.type_index, value.value.text = _RAW_STRING, text
        return values, len(arguments), kept

    def run(self, function: Handle, values: Any, count: int, _kept: Any = None) -> Any:
        """Call with packed arguments."""
        result = Any_()
        self._check(self._ffi.TVMFFIFunctionCall(function.address, values, count, byref(result)))
        if result.type_index >= _FIRST_OBJECT:
            return Handle(self, result.value.pointer, result.type_index)
        return None if result.type_index == _NONE else result.value.integer

    def tensor(self, managed: _DlManaged) -> Handle:
        """Return a tensor that views memory of ours; both must outlive it."""
        made = pointer()
        self._check(self._ffi.TVMFFITensorFromDLPack(byref(managed), ALIGNMENT_BYTES, 1, byref(made)))
        assert made.value is not None
        return Handle(self, made.value, _TENSOR)

    def arrays(self, result: Any, into: Sequence[Array] = ()) -> list[Array]:
        """Return copies of the tensors that a function returned, one or several, in ``into`` where they fit."""
        if not isinstance(result, Handle):
            raise TvmError("the model returned no tensor")
        if result.type_index == _TENSOR:
            addresses = [result.address]
        elif result.type_index == _ARRAY:
            items = _Sequence.from_address(result.address + _HEADER_BYTES)
            addresses = [items.data[i].value.pointer for i in range(items.size)]
        else:
            raise TvmError(f"the model returned an object of type {result.type_index}, not tensors")
        return [_copy(address, into[i] if i < len(into) else None) for i, address in enumerate(addresses)]

    def _object(self, value: Any, type_index: int, what: str) -> Handle:
        if not isinstance(value, Handle) or value.type_index != type_index:
            raise TvmError(f"{what} is not there")
        return value

    def _check(self, status: int) -> None:
        if status == 0:
            return
        raised = pointer()
        self._ffi.TVMFFIErrorMoveFromRaised(byref(raised))
        if not raised.value:
            raise TvmError("an error without a message")
        handle = Handle(self, raised.value, _FIRST_OBJECT)
        cell = _ErrorCell.from_address(handle.address + _HEADER_BYTES)
        raise TvmError(f"{cell.kind.text()}: {cell.message.text()}")


def find_runtime(folder: Path) -> Runtime:
    """Return the process's runtime, loaded from ``folder`` when it is the first. Raises ``ToolchainError``."""
    key = "runtime"
    if key not in _LOADED:
        _LOADED[key] = Runtime(folder)
    return _LOADED[key]


_LOADED: dict[str, Runtime] = {}  # libraries cannot be unloaded, so that this is a fact about the process


def _load(path: Path) -> ctypes.CDLL:
    """Load a library for all that follow; the one already in the process under this name, where there is one."""
    try:
        return ctypes.CDLL(path.name, mode=os.RTLD_NOLOAD | os.RTLD_GLOBAL | os.RTLD_NOW)
    except OSError:
        pass
    require_files(path.parent, path.name)
    try:
        return ctypes.CDLL(str(_same_in_packages(path) or path), mode=os.RTLD_GLOBAL | os.RTLD_NOW)
    except OSError as error:
        raise ToolchainError(
            f"TVM's {path.name} does not load here: {error}",
            hint="it needs glibc 2.28, libstdc++ and libgcc_s: install libstdc++6 and libgcc-s1",
        ) from None


def find_in_packages(name: str) -> Path | None:
    """Return where the package that has a file keeps it, without importing it; None where there is none."""
    package, _, rest = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a finder refuses it, or a module without a spec stands under its name
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders))) / rest if folders else None


def _same_in_packages(path: Path) -> Path | None:
    """Return the package's library where it is the same, byte for byte.

    A later ``import tvm`` loads that file, and ends the process where another file has registered the types already.
    """
    found = find_in_packages(IN_PACKAGES[path.name])
    return found if found is not None and found.is_file() and filecmp.cmp(path, found, shallow=False) else None


def _copy(address: int, into: Array | None) -> Array:
    """Return what a tensor holds, in ``into`` where that has its shape and type."""
    tensor = _DlTensor.from_address(address + _HEADER_BYTES)
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    dtype = np.dtype(f"{_LETTERS[tensor.code]}{tensor.bits // 8}")
    out = into if into is not None and into.shape == shape and into.dtype == dtype else np.empty(shape, dtype)
    if out.nbytes:
        ctypes.memmove(out.ctypes.data, tensor.data + tensor.byte_offset, out.nbytes)
    return out
