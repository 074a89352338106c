"""Says what is wrong with the inputs given to a runner; called only after an engine refused them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from edgepack.base.shapes import show_shape
from edgepack.errors import DataError, EdgepackError
from edgepack.specs.model import UNNAMED

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec

_WORDS_CHARACTERS = 800


# What ONNX Runtime says of a Gather whose table has no such row.
_OUTSIDE = "out of data bounds"
_NO_ROW = "a number is that of no row of a table inside the model; token ids must be those of its own tokenizer"


def check_feeds(feeds: Any, inputs: tuple[TensorSpec, ...]) -> None:
    """Raise ``DataError`` that names every input which is missing, unknown, or of another type or shape."""
    if not isinstance(feeds, Mapping):
        raise DataError(
            f"inputs must be given by name, not as a {type(feeds).__name__}", hint=f"give {{{inputs[0].name!r}: array}}"
        )
    names = [spec.name for spec in inputs]
    expected = ", ".join(_show(spec) for spec in inputs)
    if missing := [name for name in names if name not in feeds]:
        raise DataError(f"missing inputs: {', '.join(missing)}", hint=f"the model takes {expected}")
    if unknown := [str(name) for name in feeds if name not in names]:
        raise DataError(f"unknown inputs: {', '.join(unknown)}", hint=f"the model takes {expected}")
    sizes: dict[str, tuple[int, str]] = {}
    for spec in inputs:
        array = feeds[spec.name]
        if problem := _problem(spec, array) or _disagreement(spec, array, sizes):
            raise DataError(f"input {spec.name!r} {problem}", hint=f"the model takes {expected}")


def refuse(title: str, feeds: Any, inputs: tuple[TensorSpec, ...], error: Exception) -> NoReturn:
    """Raise what explains why an engine did not run ``feeds``: ``DataError``, or ``EdgepackError`` with its words."""
    check_feeds(feeds, inputs)
    if isinstance(error, MemoryError):
        raise EdgepackError(f"{title} ran out of memory", hint="give smaller inputs or a smaller batch") from error
    shapes = ", ".join(f"{spec.name} {list(np.shape(feeds[spec.name]))}" for spec in inputs)
    words = engine_words(error)
    hint = _NO_ROW if _OUTSIDE in words else "the model may be fixed to other shapes inside, such as a batch of 1"
    raise DataError(f"{title} could not run these inputs ({shapes}): {words}", hint=hint) from error


def engine_words(error: BaseException) -> str:
    """Return an engine's own message on one line, shortened."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _WORDS_CHARACTERS else words[: _WORDS_CHARACTERS - 3] + "..."


def _problem(spec: TensorSpec, array: Any) -> str | None:
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}, not a numpy array"
    if not _same_dtype(spec.dtype, array.dtype):
        order = " in another byte order" if array.dtype.name == spec.dtype else ""
        return f"has type {array.dtype.name}{order}, not {spec.dtype}"
    if "..." in spec.shape:  # its rank is not known either
        return None
    if array.ndim != len(spec.shape):
        return f"has {array.ndim} dimensions, shape {list(array.shape)}, not {len(spec.shape)}"
    if any(isinstance(want, int) and want != got for want, got in zip(spec.shape, array.shape, strict=True)):
        return f"has shape {list(array.shape)}, not {show_shape(spec.shape)}"
    return None


def _disagreement(spec: TensorSpec, array: Any, sizes: dict[str, tuple[int, str]]) -> str | None:
    """Say when a symbolic dimension has one size here and another in an input before."""
    if "..." in spec.shape:
        return None
    for name, size in zip(spec.shape, array.shape, strict=True):
        if not isinstance(name, str) or name in ("", UNNAMED):
            continue
        before, where = sizes.setdefault(name, (size, spec.name))
        if before != size:
            return f"has {name} = {size}, but {where!r} has {name} = {before}"
    return None


def _same_dtype(name: str, dtype: np.dtype[Any]) -> bool:
    if name in ("object", "str", "string"):
        return dtype.kind in "OUST"
    return dtype.name == name and dtype.isnative


def _show(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype} {show_shape(spec.shape)}"
