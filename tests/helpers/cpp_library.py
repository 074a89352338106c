"""libedgepack by ctypes, as another language would call it: for tests of what it refuses, loads, runs and verifies."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.cpp.facts import DTYPES

NAMES = [name for name, _, _ in DTYPES]


@dataclass(unsafe_hash=True)
class Refused(Exception):
    """What the library said."""

    kind: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message} ({self.hint})"


class _Info(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p), ("dtype", c_int), ("ndim", c_int), ("shape", POINTER(c_int64)),
        ("dimensions", POINTER(c_char_p)),
    )  # fmt: skip


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p), ("dtype", c_int), ("ndim", c_int), ("shape", POINTER(c_int64)), ("data", c_void_p),
        ("bytes", c_size_t),
    )  # fmt: skip


class _Options(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("threads", c_int), ("batch", c_int), ("allow_native", c_int), ("engine", c_char_p))


class _Distance(ctypes.Structure):
    _fields_ = (
        ("name", c_char_p), ("way", c_char_p), ("batch", c_int), ("passed", c_int), ("sqnr_db", c_double),
        ("least_sqnr_db", c_double), ("cosine", c_double), ("max_abs", c_double), ("mismatch", c_double),
        ("nonfinite", c_int64), ("note", c_char_p),
    )  # fmt: skip


class Library:
    """The library's functions; each handle is closed by a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        texts = "version message hint status_name name manifest_json engine engine_version notes verified_by "
        for name in (texts + "verification_note target precision manifest_sha256 bundle_version dtype_name").split():
            getattr(self.c, f"edgepack_{name}").restype = c_char_p
        for name in ("input_count", "output_count", "distance_count", "samples", "class_count"):
            getattr(self.c, f"edgepack_{name}").restype = c_size_t
        for name in ("input", "output"):
            getattr(self.c, f"edgepack_{name}").restype = POINTER(_Info)
        self.c.edgepack_distance_at.restype = POINTER(_Distance)
        self.c.edgepack_distance_at.argtypes = (c_void_p, c_size_t)
        self.c.edgepack_run.argtypes = (c_void_p, POINTER(_Tensor), c_size_t, POINTER(_Tensor), c_size_t)

    def check(self, status: int) -> None:
        """Raise ``Refused`` for a status that is not 0."""
        if status:
            kind, message, hint = self.c.edgepack_status_name(status), self.c.edgepack_message(), self.c.edgepack_hint()
            raise Refused(kind.decode(), message.decode(), hint.decode())

    @contextmanager
    def open(self, path: Path) -> Iterator[c_void_p]:
        """Open a bundle."""
        handle = c_void_p()
        self.check(self.c.edgepack_open(str(path).encode(), byref(handle)))
        try:
            yield handle
        finally:
            self.c.edgepack_close(handle)

    def refusal(self, path: Path) -> Refused | None:
        """Return why a bundle is refused, None where it is not."""
        try:
            with self.open(path):
                return None
        except Refused as refused:
            return refused

    @contextmanager
    def load(self, path: Path, **options: Any) -> Iterator[c_void_p]:
        """Open and load a bundle; the bundle is closed at once."""
        model = c_void_p()
        with self.open(path) as bundle:
            self.check(self.c.edgepack_load(bundle, byref(_options(options)), byref(model)))
            names = [
                self.c.edgepack_output(bundle, i).contents.name for i in range(self.c.edgepack_output_count(bundle))
            ]
        try:
            self.outputs = names
            yield model
        finally:
            self.c.edgepack_unload(model)

    def infer(self, model: c_void_p, feeds: Mapping[str, Any], outputs: int | None = None) -> dict[str, Any]:
        """Run a loaded model; the arrays are copies."""
        given = (_Tensor * len(feeds))(*(_tensor(name, array) for name, array in feeds.items()))
        count = len(self.outputs) if outputs is None else outputs
        found = (_Tensor * count)()
        self.check(self.c.edgepack_run(model, given, len(feeds), found, count))
        return {tensor.name.decode(): _array(tensor) for tensor in found}

    def verify(self, path: Path, **options: Any) -> dict[str, Any]:
        """Run the golden vectors; NaN is None."""
        found = c_void_p()
        with self.open(path) as bundle:
            self.check(self.c.edgepack_verify(bundle, byref(_options(options)), byref(found)))
        try:
            count = self.c.edgepack_distance_count(found)
            rows = [self.c.edgepack_distance_at(found, i).contents for i in range(count)]
            return {
                "passed": bool(self.c.edgepack_passed(found)),
                "engine": self.c.edgepack_verified_by(found).decode(),
                "samples": self.c.edgepack_samples(found),
                "note": self.c.edgepack_verification_note(found).decode(),
                "outputs": [_row(row) for row in rows],
            }
        finally:
            self.c.edgepack_free_verification(found)


def engine_paths() -> dict[str, str]:
    """Return where this Python's packages keep the engines' libraries, for the environment."""
    places = {
        "EDGEPACK_ONNXRUNTIME_LIBRARY": ("onnxruntime", "capi/libonnxruntime.so.*"),
        "EDGEPACK_OPENVINO_LIBRARY": ("openvino", "libs/libopenvino_c.so.*"),
    }
    found = {}
    for variable, (package, pattern) in places.items():
        spec = find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        (path,) = Path(next(iter(spec.submodule_search_locations))).glob(pattern)
        found[variable] = str(path)
    return found


def _options(given: Mapping[str, Any]) -> _Options:
    options = _Options(ctypes.sizeof(_Options))
    for name, value in given.items():
        setattr(options, name, value.encode() if isinstance(value, str) else value)
    return options


def _tensor(name: str, array: Any) -> _Tensor:
    assert array.flags.c_contiguous
    shape = (c_int64 * max(1, array.ndim))(*array.shape)
    made = _Tensor(name.encode(), NAMES.index(array.dtype.name), array.ndim, shape, array.ctypes.data, array.nbytes)
    made._kept = (shape, array)
    return made


def _array(tensor: _Tensor) -> Any:
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    data = ctypes.string_at(tensor.data, tensor.bytes) if tensor.bytes else b""
    return np.frombuffer(data, NAMES[tensor.dtype]).reshape(shape)


def _row(row: _Distance) -> dict[str, Any]:
    values = {name: getattr(row, name) for name, _ in row._fields_}
    values = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in values.items()}
